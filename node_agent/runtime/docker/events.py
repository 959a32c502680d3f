"""Docker's event stream as hints; reconnects by itself and asks for what it missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import structlog

from common.backoff import Backoff
from common.errors import NotFound, Unavailable
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.docker.labels import UID, node_filter
from node_agent.runtime.seam import Hint, Refused

# The others (create, kill, exec_* ...) tell nothing that a worker waits for.
_ACTIONS = ["start", "die", "oom", "destroy", "restart"]

log = structlog.get_logger(__name__)


async def docker_hints(
    engine: Engine, cluster: str, node: str, heard: Callable[[Mapping[str, Any]], None]
) -> AsyncIterator[Hint]:
    """Endless. `heard(event)` is called first, so that what is remembered of the container is forgotten."""
    delays = Backoff(first=0.2, cap=5.0, jitter=0.2)
    since = ""
    filters = {"type": ["container"], "label": node_filter(cluster, node), "event": _ACTIONS}
    while True:
        params = {"filters": json.dumps(filters), **({"since": since} if since else {})}
        try:
            async with engine.stream("GET", "events", params=params) as body:
                yield Hint("", "connected")
                while line := await body.readline():
                    delays.reset()
                    event = json.loads(line)
                    since = f"{event['timeNano'] // 10**9}.{event['timeNano'] % 10**9:09d}"
                    heard(event)
                    yield Hint(str(event["Actor"]["Attributes"].get(UID, "")), str(event["Action"]))
        except (Unavailable, NotFound, Refused) as error:
            log.info("docker.events.lost", error=str(error))
        await asyncio.sleep(next(delays))
