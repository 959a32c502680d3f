"""Which container of a pod a command means; pure."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import BadRequest, NotFound
from node_agent.runtime.seam import Seen, State


def newest(seen: Sequence[Seen], name: str, *, node: str) -> Seen:
    """The last attempt of a container, running or not. Raises NotFound (no such pod here), BadRequest (not made)."""
    if not seen:
        raise NotFound(f"the pod is not on node {node} (any more)")
    attempts = [one for one in seen if one.name == name and one.state is not State.CREATED]
    if not attempts:
        raise BadRequest(f'container "{name}" has not been started yet')
    return max(attempts, key=lambda one: one.attempt)


def running(seen: Sequence[Seen], name: str, *, node: str) -> Seen:
    """The container, which runs. Raises as `newest` does, and BadRequest when it has ended."""
    found = newest(seen, name, node=node)
    if found.state is not State.RUNNING:
        raise BadRequest(f'container "{name}" does not run: it ended with exit code {found.exit_code}')
    return found


def network_holder(seen: Sequence[Seen], *, node: str) -> Seen:
    """The running container that has the pod's network. Raises NotFound, BadRequest when none runs."""
    if not seen:
        raise NotFound(f"the pod is not on node {node} (any more)")
    holders = [one for one in seen if one.state is State.RUNNING and (not one.name or one.identity.alone)]
    if not holders:
        raise BadRequest("the pod does not run")
    return max(holders, key=lambda one: one.attempt)
