"""`run -it --rm`: makes a pod, joins its process at this terminal, and takes the pod away again."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from cli import follow, terminal
from cli.app import Settings
from cli.client import Client
from common import kinds
from common.errors import NotFound, SampanError, Unavailable
from protos import control_pb2 as control


def run_here(
    settings: Settings,
    documents: list[dict[str, Any]],
    name: str,
    *,
    stdin: bool,
    tty: bool,
    remove: bool,
    patience: float,
) -> int:
    """Creates `documents`, of which the first is pod `name` with one container of that name; the exit code.

    Raises SampanError; Unavailable when the container does not run within `patience` seconds.
    """
    tty = terminal.wants_terminal(tty)
    with settings.connect() as client:
        for document in documents:
            client.create(json.dumps(document), settings.namespace)
        try:
            pod = _started(client, settings.namespace, name, patience)
            return _joined(client, pod, name, stdin=stdin, tty=tty)
        finally:
            if remove:
                for document in reversed(documents):
                    kind = kinds.by_kind(document["kind"])
                    client.delete(kind, settings.namespace, document["metadata"]["name"], grace=0 if tty else None)
                click.echo(f'pod "{name}" deleted', err=True)


def _state(pod: Any) -> Any:
    return pod.status.containerStatuses[0].state if len(pod.status.containerStatuses) else None


def _started(client: Client, namespace: str, name: str, patience: float) -> Any:
    """The pod once its container runs or has ended."""
    fields = f"metadata.name={name}"
    start = client.list(kinds.POD, namespace, fields=fields)
    pods = list(start.items)
    deadline = time.monotonic() + patience
    changes = follow.changes(client, kinds.POD, namespace, start, fields=fields, deadline=deadline)
    last: Any = None
    try:
        while True:
            pod = pods.pop(0) if pods else None
            if pod is None:
                change = next(changes)
                if change.type == "DELETED":
                    raise NotFound(f'pod "{name}" was deleted before it ran')
                pod = change.obj
            last, state = pod, _state(pod)
            if state is not None and (state.HasField("running") or state.HasField("terminated")):
                return pod
            if pod.status.phase in ("Succeeded", "Failed"):
                raise SampanError(f'pod "{name}" has ended before it ran: {pod.status.message or pod.status.reason}')
    except TimeoutError:
        state = _state(last) if last is not None else None
        why = f" ({state.waiting.reason})" if state is not None and state.waiting.reason else ""
        raise Unavailable(
            f'pod "{name}" does not run after {patience:.0f} s{why}: `sampan describe pod {name}` says more, '
            "--pod-running-timeout waits longer"
        ) from None


def _joined(client: Client, pod: Any, name: str, *, stdin: bool, tty: bool) -> int:
    state = _state(pod)
    namespace = pod.metadata.namespace
    if not state.HasField("terminated"):
        start = control.AttachStart(namespace=namespace, pod=name, container=name, stdin=stdin, tty=tty, replay=True)
        try:
            code = terminal.converse(client.attach, control.AttachRequest, start)
            if code is not None:
                return code
        except SampanError:
            # It may have ended on the way here: then its log has everything.
            state = _ended(client, namespace, name)
            if state is None:
                raise
    from cli.logstreams import copy_out

    copy_out(client.logs(control.LogsRequest(namespace=namespace, pod=name, container=name)))
    found = _ended(client, namespace, name)
    return int(found.terminated.exitCode) if found is not None else 0


def _ended(client: Client, namespace: str, name: str) -> Any:
    """The container's state when it has ended, else None; its node may need a moment to say so."""
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        state = _state(client.get(kinds.POD, namespace, name))
        if state is not None and state.HasField("terminated"):
            return state
        time.sleep(0.1)
    return None
