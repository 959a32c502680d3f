"""Objects for tests, written as manifests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from common import kinds
from common.manifest import from_manifest

# All tests of pure parts look at the world at this moment.
NOW = datetime(2026, 3, 12, 8, 0, 0, tzinfo=UTC).timestamp()


def ago(seconds: float) -> str:
    """The time this long before NOW, as a manifest has it."""
    return datetime.fromtimestamp(NOW - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make(kind: str, name: str = "web", **fields: Any) -> Any:
    """An object of its kind's apiVersion; `metadata` is merged with name, namespace and an age of ten minutes."""
    metadata: dict[str, Any] = {"name": name, "creationTimestamp": ago(600)}
    if kinds.by_kind(kind).namespaced:
        metadata["namespace"] = "default"
    metadata |= fields.pop("metadata", {})
    return from_manifest(
        {"apiVersion": kinds.by_kind(kind).api_version, "kind": kind, "metadata": metadata, **fields}
    ).message


def pod(*, containers: int = 1, init: int = 0, metadata: dict[str, Any] | None = None, **status: Any) -> Any:
    """A pod with this status."""
    spec: dict[str, Any] = {"containers": [{"name": f"c{i}", "image": "web:1"} for i in range(containers)]}
    if init:
        spec["initContainers"] = [{"name": f"i{i}", "image": "init:1"} for i in range(init)]
    return make("Pod", metadata=metadata or {}, spec=spec, status={"phase": "Running", **status})


def status(
    name: str = "c0", *, ready: bool = False, restarts: int = 0, last: dict[str, Any] | None = None, **state: Any
) -> dict[str, Any]:
    """A container's status in one state: running={}, waiting={"reason": …} or terminated={…}."""
    return {
        "name": name,
        "ready": ready,
        "restartCount": restarts,
        "image": "web:1",
        "imageID": "",
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }
