"""Exec, AttachPod, PortForward and Copy over a real socket, with the node's end in the test's hands."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from common.errors import Unavailable
from protos import agent_pb2, control_pb2, core_pb2
from tests.master.api.conftest import Served

Chunk = agent_pb2.StreamChunk
Exec = control_pb2.ExecRequest
RUNNING = core_pb2.ContainerState(running=core_pb2.ContainerStateRunning())


async def pod(served: Served, *, state: core_pb2.ContainerState = RUNNING, **container: Any) -> core_pb2.Pod:
    made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name="web", namespace="default"))
    made.spec.containers.add(
        name="c", image="i", ports=[core_pb2.ContainerPort(name="http", containerPort=8080)], **container
    )
    stored = await served.resources.create(made)
    await served.resources.bind("default", "web", stored.metadata.uid, "node-1")

    def runs(found: Any) -> None:
        found.status.phase = "Running"
        found.status.containerStatuses.add(name="c", state=state)

    changed = await served.resources.mutate("Pod", "default", "web", runs, status=True)
    assert isinstance(changed, core_pb2.Pod)
    return changed


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(30):
            await call.read()
    return caught.value.code(), str(caught.value.details())


def start(**fields: Any) -> Exec:
    return Exec(start=control_pb2.ExecStart(**{"pod": "web", "argv": ["sh"], **fields}))


async def test_exec_both_ways(served: Served) -> None:
    made = await pod(served)
    call: Any = served.stub.Exec()
    await call.write(start(stdin=True, tty=True, size=control_pb2.TerminalSize(rows=5, cols=6)))
    node = served.logs.stream
    for chunk in (Chunk(begun=True), Chunk(data=b"out"), Chunk(data=b"err", stderr=True), Chunk(end=True, exit_code=3)):
        node.said.put_nowait(chunk)
    assert (await call.read()).begun
    ((name, command),) = node.opened
    assert name == "node-1" and command.exec.pod_uid == made.metadata.uid and command.exec.container == "c"
    assert (command.exec.rows, command.exec.cols, list(command.exec.argv)) == (5, 6, ["sh"])
    assert (await call.read()).stdout == b"out" and (await call.read()).stderr == b"err"
    last = await call.read()
    assert last.HasField("exit_code") and last.exit_code == 3
    assert await call.read() is grpc.aio.EOF
    async with asyncio.timeout(30):
        await node.closed.wait()


async def test_input_goes_down_in_order_and_in_small_pieces(served: Served) -> None:
    await pod(served)
    call: Any = served.stub.Exec()
    node = served.logs.stream
    await call.write(start(stdin=True))
    await call.write(Exec(data=b"x" * 200_000))
    await call.write(Exec(resize=control_pb2.TerminalSize(rows=1, cols=2)))
    await call.done_writing()
    async with asyncio.timeout(30):
        pieces = [await node.sent.get() for _ in range(4)]
        assert all(len(piece.data) <= 65536 for piece in pieces) and sum(len(p.data) for p in pieces) == 200_000
        size = await node.sent.get()
        assert (size.rows, size.cols) == (1, 2)
        assert (await node.sent.get()).eof
    call.cancel()
    async with asyncio.timeout(30):
        await node.closed.wait()


async def test_a_node_that_does_not_take_more_holds_the_client_back(served: Served) -> None:
    await pod(served)
    call: Any = served.stub.Exec()
    await call.write(start(stdin=True))
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await call.write(Exec(data=b"x" * 65536))
            sent += 1

    async with asyncio.TaskGroup() as group:
        task = group.create_task(send())
        before = -1
        async with asyncio.timeout(60):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 400, "more than 25 MiB are on the way"
        task.cancel()


async def test_what_is_wrong_with_an_exec_is_told(served: Served) -> None:
    code, text = await refused(served.stub.Exec(iter([start()])))
    assert code is grpc.StatusCode.NOT_FOUND
    waiting = core_pb2.ContainerState(waiting=core_pb2.ContainerStateWaiting(reason="CrashLoopBackOff"))
    await pod(served, state=waiting)
    for request, words in (
        (start(), "does not run (CrashLoopBackOff)"),
        (start(container="d"), 'has no container "d": it has c'),
        (start(pod=""), "start.pod: is required"),
        (Exec(data=b"x"), "start: the first message"),
    ):
        code, text = await refused(served.stub.Exec(iter([request])))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and words in text, text


async def test_a_fault_on_the_way_ends_the_call(served: Served) -> None:
    await pod(served)
    code, text = await refused(served.stub.Exec(iter([start(), start()])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "first message only" in text
    served.logs.stream.said.put_nowait(Unavailable("node node-1 does not answer any more"))
    code, text = await refused(served.stub.Exec(iter([start()])))
    assert code is grpc.StatusCode.UNAVAILABLE and "does not answer" in text
    code, text = await refused(served.stub.Exec(iter([start(argv=[])])))
    assert "start.argv: is required" in text


async def test_attach_needs_what_the_container_was_made_with(served: Served) -> None:
    await pod(served, stdin=True)
    Attach = control_pb2.AttachStart
    bad = control_pb2.AttachRequest(start=Attach(pod="web", stdin=True, tty=True))
    code, text = await refused(served.stub.AttachPod(iter([bad])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "`tty: true`" in text
    served.logs.stream.said.put_nowait(Chunk(end=True))
    call: Any = served.stub.AttachPod(
        iter([control_pb2.AttachRequest(start=Attach(pod="web", stdin=True, replay=True))])
    )
    assert await call.read() is grpc.aio.EOF
    _, command = served.logs.stream.opened[-1]
    assert command.attach.stdin and command.attach.replay


async def test_a_connection_and_its_two_ends(served: Served) -> None:
    await pod(served)
    node = served.logs.stream
    for chunk in (Chunk(begun=True), Chunk(data=b"pong"), Chunk(eof=True), Chunk(end=True)):
        node.said.put_nowait(chunk)
    begin = control_pb2.PortForwardStart(target="web", port="http")
    requests = [control_pb2.PortForwardRequest(start=begin), control_pb2.PortForwardRequest(data=b"ping")]
    call: Any = served.stub.PortForward(iter(requests))
    first = await call.read()
    assert first.connected and first.pod == "web"
    assert (await call.read()).data == b"pong" and (await call.read()).eof
    assert await call.read() is grpc.aio.EOF
    assert node.opened[-1][1].port_forward.port == 8080
    for target, port, words in (
        ("web", "https", 'has no port "https": it has http'),
        ("web", "70000", "must be 1-65535"),
        ("deployment/web", "80", "must be a pod or a service"),
    ):
        begin = control_pb2.PortForwardStart(target=target, port=port)
        code, text = await refused(served.stub.PortForward(iter([control_pb2.PortForwardRequest(start=begin)])))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and words in text, text


async def test_a_service_is_one_of_its_ready_pods(served: Served) -> None:
    await pod(served)
    service = core_pb2.Service(metadata=core_pb2.ObjectMeta(name="s", namespace="default"))
    service.spec.selector["app"] = "web"
    service.spec.ports.add(port=80)
    await served.resources.create(service)
    begin = control_pb2.PortForwardRequest(start=control_pb2.PortForwardStart(target="svc/s", port="80"))
    code, text = await refused(served.stub.PortForward(iter([begin])))
    assert code is grpc.StatusCode.UNAVAILABLE and "no ready pod" in text
    endpoints = core_pb2.Endpoints(metadata=core_pb2.ObjectMeta(name="s", namespace="default"))
    subset = endpoints.subsets.add()
    subset.ports.add(port=8080)
    address = subset.addresses.add(ip="10.244.0.2")
    address.targetRef.kind, address.targetRef.name = "Pod", "web"
    await served.resources.create(endpoints)
    served.logs.stream.said.put_nowait(Chunk(end=True))
    call: Any = served.stub.PortForward(iter([begin]))
    assert await call.read() is grpc.aio.EOF
    assert served.logs.stream.opened[-1][1].port_forward.port == 8080


async def test_paths_are_absolute_and_their_kind_is_told(served: Served) -> None:
    await pod(served)
    Start = control_pb2.CopyStart
    bad = control_pb2.CopyRequest(start=Start(pod="web", path="etc/passwd", operation=Start.READ))
    code, text = await refused(served.stub.Copy(iter([bad])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "must be absolute" in text
    served.logs.stream.said.put_nowait(Chunk(data=b'{"name":"x","size":3,"mode":420,', end=False))
    served.logs.stream.said.put_nowait(Chunk(data=b'"directory":false}', end=True))
    good = control_pb2.CopyRequest(start=Start(pod="web", path="/tmp/../x", operation=Start.STAT))
    answer: Any = await served.stub.Copy(iter([good])).read()
    assert (answer.info.name, answer.info.size, answer.info.mode) == ("x", 3, 0o644)
    assert served.logs.stream.opened[-1][1].copy.path == "/x"
