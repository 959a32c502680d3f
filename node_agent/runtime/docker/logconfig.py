"""How the engine keeps containers' output: rotated by us, unless its owner has said something about that."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from common.errors import Conflict, NotFound, SampanError
from node_agent.care.settings import LogRotation
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.docker.labels import CLUSTER, NODE

# Drivers that know our two options, and that `docker logs` reads.
_ROTATING = frozenset({"json-file", "local"})
_OPTIONS = ("max-size", "max-file")


async def log_config(engine: Engine, rotation: LogRotation, image: str, cluster: str, node: str) -> dict[str, Any]:
    """The LogConfig for containers; empty: the engine's own. Raises SampanError when the engine does not tell.

    An engine shows the options of its daemon.json only on containers: one of `image` is made, never started, removed.
    """
    driver = str((await engine.call("GET", "info")).get("LoggingDriver") or "")
    if driver not in _ROTATING:
        return {}
    name = "_".join(re.sub(r"[^a-zA-Z0-9.-]", "-", part) for part in ("sampan", cluster, node, "log-options"))
    body = {"Image": image, "Entrypoint": ["-"], "Labels": {CLUSTER: cluster, NODE: node}}
    body["HostConfig"] = {"NetworkMode": "none"}
    await _remove(engine, name)
    try:
        made = await engine.call("POST", "containers/create", params={"name": name}, body=body, heavy=True)
        shown = await engine.call("GET", f"containers/{made['Id']}/json")
    finally:
        with contextlib.suppress(SampanError):
            await _remove(engine, name)
    return chosen(driver, (shown.get("HostConfig") or {}).get("LogConfig") or {}, rotation)


def chosen(driver: str, default: Mapping[str, Any], rotation: LogRotation) -> dict[str, Any]:
    """Ours, unless the engine's own `default` says how to rotate; pure."""
    if driver not in _ROTATING or any(option in (default.get("Config") or {}) for option in _OPTIONS):
        return {}
    return rotated(driver, rotation)


def rotated(driver: str, rotation: LogRotation) -> dict[str, Any]:
    return {"Type": driver, "Config": {"max-size": rotation.max_size, "max-file": str(rotation.max_files)}}


async def _remove(engine: Engine, name: str) -> None:
    try:
        await engine.call("DELETE", f"containers/{name}", params={"force": "1", "v": "1"})
    except (NotFound, Conflict):
        return
