"""The pods behind an object: all of a controller's or service's, or the one to talk to."""

from __future__ import annotations

from typing import Any

import click

from cli import targets
from cli.client import Client
from cli.columns.pods import condition
from cli.rollouts.registry import pods_selector
from common import kinds
from common.errors import BadRequest, NotFound
from common.kinds import Kind

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def selector_of(kind: Kind, obj: Any) -> str:
    """The label selector by which an object finds its pods. Raises BadRequest when it has none."""
    text = pods_selector(obj)
    if not text:
        shown = targets.shown(kind, obj.metadata.name)
        raise BadRequest(f"{shown} selects no pods: name a pod, or deployment/NAME, rc/NAME or svc/NAME")
    return text


def pods_behind(client: Client, what: str, namespace: str) -> list[Any]:
    """The pods of "web", "pod/web", "deploy/web", "svc/web"; the best to talk to first. Raises NotFound, BadRequest."""
    kind, name = targets.one((what,), default=kinds.POD)
    obj = client.get(kind, namespace, name)
    if kind is kinds.POD:
        return [obj]
    labels = selector_of(kind, obj)
    found = client.list(kinds.POD, namespace, labels=labels).items
    if not found:
        raise NotFound(f"{targets.shown(kind, name)} has no pods (none has the labels {labels})")
    # A ready pod first, then one that runs, then the oldest.
    return sorted(
        found,
        key=lambda pod: (
            pod.metadata.HasField("deletionTimestamp"),
            not condition(pod, "Ready"),
            pod.status.phase != "Running",
            pod.metadata.creationTimestamp.seconds,
            pod.metadata.name,
        ),
    )


def pod_behind(client: Client, what: str, namespace: str, *, hint: str = "") -> Any:
    """One of them; tells on stderr when it was a choice."""
    best = pods_behind(client, what, namespace)
    if len(best) > 1:
        click.echo(f"Found {len(best)} pods, using pod/{best[0].metadata.name}{hint}", err=True)
    return best[0]


def default_container(pod: Any) -> str:
    """The container meant when none is named, as kubectl has it: the annotated one, else the first."""
    names = [str(container.name) for container in pod.spec.containers]
    chosen = str(pod.metadata.annotations.get(DEFAULT_CONTAINER, ""))
    if chosen not in names:
        chosen = names[0] if names else ""
    if len(names) > 1:
        click.echo(f'Defaulted container "{chosen}" out of: {", ".join(names)}', err=True)
    return chosen
