"""Where the master serves routing tables: beside its port, where it was told, or nowhere but on its port."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import Unavailable
from common.frames import FrameWriter
from master.dispatcher.fanout import FanOut, RouteFrames
from master.dispatcher.sessions import Sessions
from master.server import MasterConfig, _open_routes

CONFIG = MasterConfig(Path("/nowhere"), "127.0.0.1:7443")


@pytest.fixture
async def fan_out() -> AsyncIterator[FanOut]:
    sessions = Sessions(lambda node, session: None, lambda node, session: None)
    one = FanOut(sessions, RouteFrames(FrameWriter(len)), lambda: None)
    yield one
    one.close()


@pytest.fixture
async def taken() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_the_port_after_the_masters_is_taken_when_it_is_free(fan_out: FanOut, taken: int) -> None:
    await _open_routes(fan_out, dataclasses.replace(CONFIG, listen=f"127.0.0.1:{taken - 1}"))
    assert fan_out.port == 0, "it is in use: the master does without"
    free = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    await _open_routes(fan_out, dataclasses.replace(CONFIG, listen=f"127.0.0.1:{port - 1}"))
    assert fan_out.port == port


async def test_a_port_that_was_asked_for_has_to_be_free(fan_out: FanOut, taken: int) -> None:
    with pytest.raises(Unavailable, match="--routes-port"):
        await _open_routes(fan_out, dataclasses.replace(CONFIG, routes_port=taken))


@pytest.mark.parametrize("config", [dataclasses.replace(CONFIG, routes_port=0), MasterConfig(Path("/"), "h:65535")])
async def test_none_is_served_when_none_is_asked_for_or_left(fan_out: FanOut, config: MasterConfig) -> None:
    await _open_routes(fan_out, config)
    assert fan_out.port == 0
