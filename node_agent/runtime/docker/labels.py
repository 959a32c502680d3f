"""Identities as Docker labels and names, and what Docker shows as `Seen`; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from node_agent.runtime.seam import Identity, Seen, State

PREFIX = "sampan.dev/"
CLUSTER = PREFIX + "cluster"
NODE = PREFIX + "node"
UID = PREFIX + "pod-uid"
_KIND = PREFIX + "kind"
_NAMESPACE = PREFIX + "pod-namespace"
_NAME = PREFIX + "pod-name"
_CONTAINER = PREFIX + "container"
_ATTEMPT = PREFIX + "attempt"
_CRASHES = PREFIX + "crashes"
_SPEC_HASH = PREFIX + "spec-hash"
_IP = PREFIX + "ip"
_SANDBOX = PREFIX + "sandbox"
_GRACE = PREFIX + "grace"

# Docker shows this exit code and an error text for a container that could not be started.
_CANNOT_START = 128
_ZERO_TIME_YEAR = "0001-"
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


def labels_of(identity: Identity) -> dict[str, str]:
    """Labels from which `identity_of` makes the same identity again."""
    return {
        CLUSTER: identity.cluster,
        NODE: identity.node,
        UID: identity.uid,
        _KIND: identity.kind,
        _NAMESPACE: identity.namespace,
        _NAME: identity.pod,
        _CONTAINER: identity.container,
        _ATTEMPT: str(identity.attempt),
        _CRASHES: str(identity.crashes),
        _SPEC_HASH: identity.spec_hash,
        _IP: identity.ip,
        _SANDBOX: identity.sandbox,
        _GRACE: str(identity.grace),
    }


def identity_of(labels: Mapping[str, str]) -> Identity | None:
    """None for a container that no agent made (or whose labels somebody changed)."""
    if not labels.get(UID):
        return None
    return Identity(
        cluster=labels.get(CLUSTER, ""),
        node=labels.get(NODE, ""),
        namespace=labels.get(_NAMESPACE, ""),
        pod=labels.get(_NAME, ""),
        uid=labels[UID],
        container=labels.get(_CONTAINER, ""),
        attempt=_number(labels.get(_ATTEMPT), 0),
        crashes=_number(labels.get(_CRASHES), 0),
        spec_hash=labels.get(_SPEC_HASH, ""),
        ip=labels.get(_IP, ""),
        sandbox=labels.get(_SANDBOX, ""),
        grace=_number(labels.get(_GRACE), 30),
    )


def name_of(identity: Identity) -> str:
    """The container's name: readable in `docker ps`, unique by uid and attempt."""
    parts = (
        "sampan",
        identity.cluster,
        identity.node,
        identity.namespace,
        identity.pod,
        identity.container or "sandbox",
        identity.uid[:8],
        str(identity.attempt),
    )
    return "_".join(re.sub(r"[^a-zA-Z0-9.-]", "-", part) for part in parts)


def node_filter(cluster: str, node: str) -> list[str]:
    """Docker's label filter for everything of one node."""
    return [f"{CLUSTER}={cluster}", f"{NODE}={node}"]


def seen_of(inspected: Mapping[str, Any]) -> Seen | None:
    """A container as `docker inspect` shows it; None when it is not a pod's."""
    config, state = inspected.get("Config") or {}, inspected.get("State") or {}
    identity = identity_of(config.get("Labels") or {})
    if identity is None:
        return None
    created = unix_time(inspected.get("Created"))
    where, exit_code = _state(state), int(state.get("ExitCode") or 0)
    error = str(state.get("Error") or "")
    started = unix_time(state.get("StartedAt"))
    # Docker notes the start after the fact: a very short life can seem to end before it began.
    finished = max(unix_time(state.get("FinishedAt")), started)
    if where is State.EXITED and state.get("Status") == "created":
        exit_code, finished = exit_code or _CANNOT_START, finished or created
    return Seen(
        id=str(inspected["Id"]),
        identity=identity,
        state=where,
        created_at=created,
        started_at=started,
        finished_at=finished if where is State.EXITED else 0.0,
        exit_code=exit_code if where is State.EXITED else 0,
        oom_killed=bool(state.get("OOMKilled")),
        error=error,
        image=str(config.get("Image") or ""),
        image_id=str(inspected.get("Image") or ""),
    )


def _state(state: Mapping[str, Any]) -> State:
    status = state.get("Status")
    if status in ("running", "paused", "restarting"):
        return State.RUNNING
    if status == "created":
        # A failed start leaves the container "created" with the reason: for us that was its life.
        return State.EXITED if state.get("Error") else State.CREATED
    return State.EXITED


def unix_time(text: object) -> float:
    """Seconds since 1970 of Docker's RFC 3339 time (nanoseconds, zero year for never)."""
    if not isinstance(text, str) or not text or text.startswith(_ZERO_TIME_YEAR):
        return 0.0
    return datetime.fromisoformat(_FRACTION.sub(r".\1", text).replace("Z", "+00:00")).timestamp()


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default
