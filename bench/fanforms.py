"""What one message to each of many agents and its acknowledgement cost: grpc.aio beside the port for routes alone.

    python -m bench.fanforms [--streams 1000] [--rounds 30]

The server is this process, the clients are two others; all that travels is a routing table's delta of 3 KB and an
acknowledgement, on a connection for each client. The figures behind docs/adr/0008-fan-out.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from bench import report
from bench.ready import cpu_seconds
from common.rpc import SERVER_OPTIONS, open_channel
from master.dispatcher.fanout import FanOut, RouteFrames
from master.dispatcher.routes import RouteTable
from master.dispatcher.sessions import Sessions
from node_agent.lane import Lane, RoutesLane
from protos import agent_pb2, agent_pb2_grpc

PROCESSES = 2
PAUSE_SECONDS = 0.1


@dataclass
class Form:
    """A server that runs: where, how one more change goes out, and how many acknowledgements have come."""

    port: int
    change: Callable[[], None]
    acks: Callable[[], int]


def _table() -> tuple[RouteTable, Callable[[], None]]:
    table, turn = RouteTable(), [0]

    def change() -> None:
        turn[0] += 1
        route = agent_pb2.ServiceRoute(namespace="default", name="web", uid="u" * 36, cluster_ip="10.96.0.9")
        port = route.ports.add(name="http", protocol="TCP", port=80)
        for number in range(60):
            port.endpoints.add(ip=f"10.244.{number}.2", port=turn[0], node_name=f"n{number}", pod=f"p{number}")
        table.writer.put("service/default/web", route)

    change()
    return table, change


async def _lane(streams: int) -> tuple[Form, Callable[[], Awaitable[None]]]:
    table, put = _table()
    acks = [0]

    def acked() -> None:
        acks[0] += 1

    sessions = Sessions(lambda node, session: None, lambda node, session: None)
    for number in range(streams):
        session = sessions.start(f"n{number}", "u")
        sessions._by_id[f"s{number}"] = session
    fan = FanOut(sessions, RouteFrames(table.writer), acked)
    await fan.listen("127.0.0.1", 0)

    def change() -> None:
        put()
        fan.push()

    async def close() -> None:
        fan.close()

    return Form(fan.port, change, lambda: acks[0]), close


async def _aio(streams: int) -> tuple[Form, Callable[[], Awaitable[None]]]:
    table, put = _table()
    frames, wakes, acks = RouteFrames(table.writer), list[asyncio.Event](), [0]

    async def routes(requests: object, context: Any) -> None:
        await context.read()
        wake, cursor = asyncio.Event(), None

        async def hear() -> None:
            while await context.read() is not grpc.aio.EOF:
                acks[0] += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(hear())
            wakes.append(wake)
            while True:
                for revision, data, _ in frames.since(cursor):
                    await context.write(data)
                    cursor = revision
                await wake.wait()
                wake.clear()

    handler = grpc.stream_stream_rpc_method_handler(routes, agent_pb2.RoutesRequest.FromString, bytes)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handlers = {"Routes": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sampan.v1.NodeService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def change() -> None:
        put()
        for wake in wakes:
            wake.set()

    async def close() -> None:
        await server.stop(0)

    return Form(port, change, lambda: acks[0]), close


async def _clients(form: str, port: int, first: int, count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            one = _lane_client if form == "lane" else _aio_client
            group.create_task(one(port, f"s{number}"))
            await asyncio.sleep(0.002)


async def _lane_client(port: int, session: str) -> None:
    held: list[Lane] = []
    applied = agent_pb2.RoutesRequest()

    def frame(got: agent_pb2.Frame) -> None:
        applied.epoch, applied.revision = got.epoch, got.revision
        held[0].say()

    await RoutesLane.follow("127.0.0.1", port, session, frame, lambda: applied, held.append)


async def _aio_client(port: int, session: str) -> None:
    async with open_channel(f"127.0.0.1:{port}") as channel:
        call = agent_pb2_grpc.NodeServiceStub(channel).Routes()
        await call.write(agent_pb2.RoutesRequest(session_id=session))
        async for frame in call:
            await call.write(agent_pb2.RoutesRequest(epoch=frame.epoch, revision=frame.revision))


async def _measure(form: str, streams: int, rounds: int) -> dict[str, float]:
    server, close = await (_lane if form == "lane" else _aio)(streams)
    share = streams // PROCESSES
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.fanforms", "--form", form, "--clients", f"{server.port}:{i * share}:{share}"
        )
        for i in range(PROCESSES)
    ]
    try:
        await _come(server, share * PROCESSES)
        times: list[float] = []
        spent, clients = time.process_time(), sum(cpu_seconds(one.pid) for one in processes)
        for _ in range(rounds):
            await asyncio.sleep(PAUSE_SECONDS)
            due, began = server.acks() + share * PROCESSES, time.perf_counter()
            server.change()
            await _come(server, due)
            times.append(time.perf_counter() - began)
        each = rounds * share * PROCESSES / 1e6
        return {
            "wall, ms": statistics.median(times) * 1000,
            "server, us each": (time.process_time() - spent) / each,
            "clients, us each": (sum(cpu_seconds(one.pid) for one in processes) - clients) / each,
        }
    finally:
        for one in processes:
            one.kill()
            await one.wait()
        await close()


async def _come(server: Form, due: int) -> None:
    async with asyncio.timeout(120):
        while server.acks() < due:  # noqa: ASYNC110 - nothing may be added to what each acknowledgement costs
            await asyncio.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000, help="connections (default 1000)")
    parser.add_argument("--rounds", type=int, default=30, help="changes, one after another (default 30)")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--clients", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clients:
        port, first, count = (int(part) for part in options.clients.split(":"))
        asyncio.run(_clients(options.form, port, first, count))
        return
    report.heading(f"One message and its acknowledgement, {options.streams} connections, medians of {options.rounds}")
    for form in ("aio", "lane"):
        found = asyncio.run(_measure(form, options.streams, options.rounds))
        report.console.print(f"{form}: " + ", ".join(f"{name} {value:.0f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
