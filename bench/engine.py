"""Questions to a Docker engine over its socket: a `docker` process for every look would take the cores it looks at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from tests.harness import Host

SECONDS = 30.0


async def ask(host: Host, path: str, filters: Mapping[str, Sequence[str]] | None = None) -> Any:
    """What `GET path` answers, decoded. Raises aiohttp.ClientError where the engine does not answer or refuses."""
    connector = aiohttp.UnixConnector(host.docker_url.removeprefix("unix://"))
    params = {"filters": json.dumps(filters)} if filters else {}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, raise_for_status=True) as session,
        session.get(f"http://engine{path}", params=params) as answer,
    ):
        return await answer.json()


async def running(hosts: Sequence[Host], filters: Mapping[str, Sequence[str]]) -> dict[str, Host]:
    """The ids of the containers that run, and where."""
    found: dict[str, Host] = {}
    for host in hosts:
        found |= {one["Id"]: host for one in await ask(host, "/containers/json", filters)}
    return found
