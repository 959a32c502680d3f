"""exec, attach, port-forward and copies on an open stream: joins the runtime's bytes with the master's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from common.errors import BadRequest, NotFound
from node_agent.runtime.seam import Runtime
from node_agent.runtime.stdio import Out, Pipe, Stdio
from node_agent.streams.line import Line
from node_agent.streams.targets import network_holder, newest, running
from protos import agent_pb2


async def serve(runtime: Runtime, node: str, node_ip: str, command: agent_pb2.Command, line: Line) -> int | None:
    """Until it ends; the exit code of a process. `node_ip` is where pods of the node's own network are.

    Raises SampanError. Cancelled, it leaves nothing open: an exec's process is killed where the runtime can.
    """
    match command.WhichOneof("command"):
        case "exec":
            return await _exec(runtime, node, command.exec, line)
        case "attach":
            return await _attach(runtime, node, command.attach, line)
        case "port_forward":
            wanted = command.port_forward
            holder = network_holder(await runtime.containers(wanted.pod_uid), node=node)
            async with runtime.dial(holder.id, holder.identity.ip or node_ip, wanted.port) as pipe:
                await line.begun()
                await _relay(pipe, line)
            return None
        case "copy":
            await _copy(runtime, node, command.copy, line)
            return None
    raise BadRequest("this agent does not know the command: it is older than the master")


async def _exec(runtime: Runtime, node: str, wanted: agent_pb2.ExecCommand, line: Line) -> int:
    target = running(await runtime.containers(wanted.pod_uid), wanted.container, node=node)
    async with runtime.exec(target.id, wanted.argv, stdin=wanted.stdin, tty=wanted.tty) as stdio:
        await line.begun()
        if wanted.tty and wanted.rows and wanted.cols:
            await stdio.resize(wanted.rows, wanted.cols)
        await _joined(stdio, line, stdin=wanted.stdin)
        return await stdio.exit_code()


async def _attach(runtime: Runtime, node: str, wanted: agent_pb2.AttachCommand, line: Line) -> int | None:
    target = running(await runtime.containers(wanted.pod_uid), wanted.container, node=node)
    async with runtime.attach(target.id, stdin=wanted.stdin, replay=wanted.replay) as stdio:
        await line.begun()
        if wanted.rows and wanted.cols:
            # A program that is already there draws itself anew only when the size changes.
            await stdio.resize(wanted.rows + 1, wanted.cols + 1)
            await stdio.resize(wanted.rows, wanted.cols)
        await _joined(stdio, line, stdin=wanted.stdin)
        try:
            return await stdio.exit_code()
        except NotFound:
            # Removed as soon as it had ended.
            return None


async def _joined(stdio: Stdio, line: Line, *, stdin: bool) -> None:
    """Until the process's output has ended; input that comes later is nobody's."""
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(_feed(stdio, line, stdin=stdin), name="stream/input")
        async for out, data in stdio:
            await line.send(data, stderr=out is Out.STDERR)
        feeding.cancel()


async def _feed(stdio: Stdio, line: Line, *, stdin: bool) -> None:
    async for chunk in line:
        if chunk.rows and chunk.cols:
            await stdio.resize(chunk.rows, chunk.cols)
        if chunk.data and stdin:
            await stdio.send(chunk.data)
        if chunk.eof and stdin:
            await stdio.close_stdin()


async def _relay(pipe: Pipe, line: Line) -> None:
    """Until both sides have closed their half."""

    async def up() -> None:
        async for _, data in pipe:
            await line.send(data)
        await line.eof()

    async def down() -> None:
        async for chunk in line:
            if chunk.data:
                await pipe.send(chunk.data)
            if chunk.eof:
                break
        await pipe.close_stdin()

    async with asyncio.TaskGroup() as group:
        group.create_task(up(), name="stream/up")
        group.create_task(down(), name="stream/down")


async def _copy(runtime: Runtime, node: str, wanted: agent_pb2.CopyCommand, line: Line) -> None:
    target = newest(await runtime.containers(wanted.pod_uid), wanted.container, node=node).id
    match wanted.operation:
        case agent_pb2.CopyCommand.STAT:
            seen = await runtime.path_seen(target, wanted.path)
            found = {"name": seen.name, "size": seen.size, "mode": seen.mode, "directory": seen.directory}
            await line.send(json.dumps(found).encode())
        case agent_pb2.CopyCommand.READ:
            async for piece in runtime.read_files(target, wanted.path):
                await line.send(piece)
        case agent_pb2.CopyCommand.WRITE:
            await runtime.write_files(target, wanted.path, _archive(line))
        case _:
            raise BadRequest("this agent does not know the operation: it is older than the master")


async def _archive(line: Line) -> AsyncIterator[bytes]:
    async for chunk in line:
        if chunk.data:
            yield chunk.data
        if chunk.eof:
            return
    # Without the end it must not pass for a whole archive.
    raise BadRequest("the archive was cut off")
