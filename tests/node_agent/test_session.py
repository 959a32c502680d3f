"""A session's ways to end, against a server that ends what a master would not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from common.tasks import Tasks
from node_agent.reporter import Reporter
from node_agent.session import MasterLink
from node_agent.streams.line import Line
from protos import agent_pb2, agent_pb2_grpc
from tests.master.dispatcher.conftest import eventually


class EndsReports(agent_pb2_grpc.NodeServiceServicer):
    """Acknowledges one report of each session and then ends the stream; the others stay open."""

    def __init__(self) -> None:
        self.sessions = 0

    async def Register(self, request: agent_pb2.RegisterRequest, context: Any) -> agent_pb2.RegisterResponse:
        self.sessions += 1
        return agent_pb2.RegisterResponse(session_id=f"s{self.sessions}", heartbeat_period_ms=50)

    async def Report(self, requests: Any, context: Any) -> AsyncIterator[agent_pb2.ReportAck]:
        async for report in requests:
            yield agent_pb2.ReportAck(sequence=report.sequence, heartbeat_period_ms=50)
            return

    async def Assignments(self, request: Any, context: Any) -> AsyncIterator[agent_pb2.Frame]:
        await asyncio.Event().wait()
        yield agent_pb2.Frame()

    async def Routes(self, requests: Any, context: Any) -> AsyncIterator[agent_pb2.Frame]:
        await asyncio.Event().wait()
        yield agent_pb2.Frame()

    async def Commands(self, request: Any, context: Any) -> AsyncIterator[agent_pb2.Command]:
        await asyncio.Event().wait()
        yield agent_pb2.Command()

    async def Attach(self, requests: Any, context: Any) -> AsyncIterator[agent_pb2.StreamChunk]:
        yield agent_pb2.StreamChunk()


class Node:
    """As much of a node as a session asks for."""

    def __init__(self) -> None:
        self.reporter = Reporter()

    async def hello(self) -> agent_pb2.RegisterRequest:
        return agent_pb2.RegisterRequest(node_name="n1", token="t")

    async def registered(self, answer: agent_pb2.RegisterResponse) -> None:
        return None

    def reopen(self, stream: str) -> None:
        return None

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        return None

    def statuses(self) -> list[agent_pb2.PodReport]:
        return []

    def acknowledge(self, report: agent_pb2.NodeReport) -> None:
        return None

    def routes_applied(self) -> agent_pb2.RoutesRequest:
        return agent_pb2.RoutesRequest(epoch="e", revision=1)

    async def logs(self, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]:
        yield b""

    async def query(self, command: agent_pb2.QueryCommand) -> AsyncIterator[bytes]:
        yield b""

    async def converse(self, command: agent_pb2.Command, line: Line) -> int | None:
        return None


async def test_a_stream_that_ended_while_there_was_nothing_to_say_begins_a_new_session() -> None:
    server, servicer = grpc.aio.server(), EndsReports()
    agent_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    link, tasks = MasterLink(f"127.0.0.1:{port}", Node()), Tasks("test")
    running = tasks.start("link", link.run())
    try:
        await eventually(lambda: running.done() or servicer.sessions >= 3, 60)
        assert not running.done(), "the agent ended"
    finally:
        await tasks.close()
        await server.stop(0)
