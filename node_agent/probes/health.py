"""What is known of a running container's health, with and without probes; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import Container, Pod, PodStatus

_ENGINE_PREFIX = "docker://"


@dataclass(frozen=True)
class Doom:
    """Why a running container is to end (a whole sentence, for the event), and within which grace (None: the pod's)."""

    message: str
    grace: int | None = None


@dataclass(frozen=True)
class Health:
    """`started` and `ready` as in a container's status."""

    started: bool
    ready: bool
    doom: Doom | None = None


NOT_RUNNING = Health(started=False, ready=False)


def is_sidecar(container: Container) -> bool:
    """Whether an init container runs beside the main ones, restarted for ever."""
    return container.restartPolicy == "Always"


def health_of(container: Container, one: Seen | None, health: Mapping[str, Health], *, starting: bool) -> Health:
    """A container's health; `starting`: its start is not over, so a postStart hook may still run."""
    if one is None or one.state is not State.RUNNING or in_hook(container, starting):
        return NOT_RUNNING
    known = health.get(one.id)
    if known is not None:
        return known
    started = not container.HasField("startupProbe")
    return Health(started, started and not container.HasField("readinessProbe"))


def in_hook(container: Container, starting: bool) -> bool:
    """Whether a container that runs may still be in its postStart hook."""
    return starting and container.lifecycle.HasField("postStart")


def reported_health(status: PodStatus) -> dict[str, Health]:
    """What an earlier agent reported, by container id."""
    return {
        one.containerID.removeprefix(_ENGINE_PREFIX): Health(one.started, one.ready)
        for one in (*status.initContainerStatuses, *status.containerStatuses)
        if one.containerID and one.state.HasField("running")
    }


def containers_by_name(pod: Pod) -> dict[str, Container]:
    return {container.name: container for container in (*pod.spec.initContainers, *pod.spec.containers)}
