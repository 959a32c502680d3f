"""One container on a pod's page, or in a controller's template: what it runs and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.ages import is_set, when
from cli.describe.common import quantities
from cli.describe.page import NONE, Page

if TYPE_CHECKING:
    from protos.core_pb2 import Container, ContainerState, ContainerStatus, EnvVar


def container(page: Page, item: Container, status: ContainerStatus | None) -> None:
    """A section named after the container; without a status (a template) only what is wanted."""
    with page.section(item.name):
        if status is not None:
            page.fields({"Container ID": status.containerID})
        page.field("Image", item.image)
        if status is not None:
            page.fields({"Image ID": status.imageID})
        page.field("Port", _ports(item, host=False))
        if any(port.hostPort for port in item.ports):
            page.field("Host Port", _ports(item, host=True))
        if item.command:
            page.several("Command", item.command)
        if item.args:
            page.several("Args", item.args)
        page.fields({"Working Dir": item.workingDir})
        if status is not None:
            _state(page, "State", status.state)
            if status.lastState.HasField("terminated"):
                _state(page, "Last State", status.lastState)
            page.field("Ready", str(status.ready))
            page.field("Restart Count", status.restartCount)
        quantities(page, "Limits", item.resources.limits)
        quantities(page, "Requests", item.resources.requests)
        _environment(page, item)
        page.several(
            "Mounts",
            (
                f"{mount.mountPath} from {mount.name} ({'ro' if mount.readOnly else 'rw'})"
                for mount in sorted(item.volumeMounts, key=lambda mount: mount.mountPath)
            ),
        )


def _ports(item: Container, *, host: bool) -> str:
    return ", ".join(f"{p.hostPort if host else p.containerPort}/{p.protocol or 'TCP'}" for p in item.ports) or NONE


def _state(page: Page, key: str, state: ContainerState) -> None:
    if state.HasField("running"):
        with page.section(key, "Running"):
            page.field("Started", when(state.running.startedAt))
    elif state.HasField("terminated"):
        end = state.terminated
        with page.section(key, "Terminated"):
            page.fields({"Reason": end.reason, "Message": end.message})
            page.field("Exit Code", end.exitCode)
            if end.signal:
                page.field("Signal", end.signal)
            times: Mapping[str, Any] = {"Started": end.startedAt, "Finished": end.finishedAt}
            page.fields({name: when(time) if is_set(time) else "" for name, time in times.items()})
    else:
        with page.section(key, "Waiting"):
            page.fields({"Reason": state.waiting.reason, "Message": state.waiting.message})


def _environment(page: Page, item: Container) -> None:
    sources = [
        f"{source.configMapRef.localObjectReference.name} (ConfigMap)"
        if source.HasField("configMapRef")
        else f"{source.secretRef.localObjectReference.name} (Secret)"
        for source in item.envFrom
    ]
    if sources:
        page.several("Environment Variables from", sources)
    if not item.env:
        page.field("Environment", NONE)
        return
    with page.section("Environment"):
        for variable in item.env:
            page.field(variable.name, _value(variable))


def _value(variable: EnvVar) -> str:
    source = variable.valueFrom
    if source.HasField("fieldRef"):
        return f"({source.fieldRef.fieldPath})"
    if source.HasField("resourceFieldRef"):
        return f"({source.resourceFieldRef.resource})"
    for kind, key in (("configMapKeyRef", "config map"), ("secretKeyRef", "secret")):
        if source.HasField(kind):  # type: ignore[arg-type]
            reference = getattr(source, kind)
            return f"<set to the key '{reference.key}' in {key} '{reference.localObjectReference.name}'>"
    return variable.value
