"""Rules about a container's probes, hooks and restartPolicy."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from common import names
from master.api.validation.faults import Faults, present
from protos import core_pb2

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "sleep")
_SIGNALS = frozenset(one.name for one in signal.Signals) | {f"SIGRTMIN+{n}" for n in range(1, 16)}


def validate_health(path: str, container: core_pb2.Container, grace: int, faults: Faults, *, init: bool) -> None:
    """`grace` is the pod's terminationGracePeriodSeconds."""
    if container.HasField("restartPolicy"):
        here = f"{path}.restartPolicy"
        if not init:
            faults.add(here, "must not be set here: only on an init container, to make it a sidecar")
        faults.one_of(here, container.restartPolicy, ("Always",))
    for name in present(container, (*PROBES, "lifecycle")):
        here = f"{path}.{name}"
        if init and container.restartPolicy != "Always":
            faults.add(here, "must not be set on an init container that is no sidecar (restartPolicy: Always)")
        elif name == "lifecycle":
            _lifecycle(here, container.lifecycle, grace, faults)
        else:
            _probe(here, getattr(container, name), faults, only_one=name != "readinessProbe")


def _probe(path: str, probe: core_pb2.Probe, faults: Faults, *, only_one: bool) -> None:
    given = present(probe.handler, _HANDLERS)
    faults.exactly_one(path, given, _HANDLERS)
    _actions(path, probe.handler, given, faults)
    for name, least in (
        ("initialDelaySeconds", 0),
        ("timeoutSeconds", 1),
        ("periodSeconds", 1),
        ("successThreshold", 1),
        ("failureThreshold", 1),
    ):
        faults.at_least(f"{path}.{name}", getattr(probe, name), least)
    if only_one and probe.successThreshold > 1:
        faults.add(f"{path}.successThreshold", f"must be 1 here, got {probe.successThreshold}")
    if probe.HasField("terminationGracePeriodSeconds"):
        here = f"{path}.terminationGracePeriodSeconds"
        if not only_one:
            faults.add(here, "must not be set on a readiness probe")
        faults.at_least(here, probe.terminationGracePeriodSeconds, 1)


def _lifecycle(path: str, lifecycle: core_pb2.Lifecycle, grace: int, faults: Faults) -> None:
    for name in present(lifecycle, ("postStart", "preStop")):
        handler = getattr(lifecycle, name)
        here = f"{path}.{name}"
        given = present(handler, _HOOKS)
        faults.exactly_one(here, given, _HOOKS)
        _actions(here, handler, given, faults)
        if handler.HasField("sleep") and not 0 <= handler.sleep.seconds <= grace:
            faults.add(
                f"{here}.sleep.seconds",
                f"must be 0-{grace} (the pod's terminationGracePeriodSeconds), got {handler.sleep.seconds}",
            )
    if lifecycle.HasField("stopSignal") and lifecycle.stopSignal not in _SIGNALS:
        faults.add(f"{path}.stopSignal", f"must be a signal's name (like SIGTERM), got {lifecycle.stopSignal!r}")


def _actions(
    path: str, handler: core_pb2.ProbeHandler | core_pb2.LifecycleHandler, given: Iterable[str], faults: Faults
) -> None:
    for name in given:
        here = f"{path}.{name}"
        if name == "exec" and not handler.exec.command:
            faults.add(f"{here}.command", "is required (the program and its arguments)")
        elif name == "httpGet":
            _http_get(here, handler.httpGet, faults)
        elif name == "tcpSocket":
            _port_reference(f"{here}.port", handler.tcpSocket.port, faults)
        elif name == "grpc" and isinstance(handler, core_pb2.ProbeHandler):
            faults.port(f"{here}.port", handler.grpc.port)


def _http_get(path: str, action: core_pb2.HTTPGetAction, faults: Faults) -> None:
    _port_reference(f"{path}.port", action.port, faults)
    faults.required(f"{path}.path", action.path, "like /")
    if any(char.isspace() or not char.isprintable() for char in action.path):
        faults.add(f"{path}.path", f"must not contain spaces or control characters, got {action.path!r}")
    faults.one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.httpHeaders):
        here = f"{path}.httpHeaders[{index}]"
        faults.required(f"{here}.name", header.name, "like X-Header")
        if any(char in header.name for char in " :\r\n\t"):
            faults.add(f"{here}.name", f"must be a header's name, got {header.name!r}")
        if any(char in header.value for char in "\r\n"):
            faults.add(f"{here}.value", "must be one line")


def _port_reference(path: str, port: core_pb2.IntOrString, faults: Faults) -> None:
    """A number, or the name of one of the container's ports."""
    if port.type == 1:
        faults.required(path, port.strVal, "a port's number or name", names.port_name_fault)
    else:
        faults.port(path, port.intVal)
