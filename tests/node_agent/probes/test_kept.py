"""Statuses that outlive an agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from node_agent.assignments import STATUSES, Keeper
from node_agent.probes.kept import KeptStatuses
from node_agent.storage import MemoryStorage
from protos.agent_pb2 import NodeReport, PodReport
from protos.core_pb2 import Pod
from tests.harness import eventually


def pod_of(uid: str, *, asked: bool = True) -> Pod:
    pod = Pod()
    pod.metadata.uid = uid
    container = pod.spec.containers.add(name="a")
    if asked:
        container.readinessProbe.handler.tcpSocket.port.intVal = 80
    return pod


def report_of(uid: str, *, gone: bool = False) -> PodReport:
    report = PodReport(uid=uid, gone=gone)
    report.status.containerStatuses.add(name="a", ready=True)
    return report


@contextlib.asynccontextmanager
async def keeping(storage: MemoryStorage) -> AsyncIterator[KeptStatuses]:
    keeper = Keeper(storage)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        yield KeptStatuses(keeper)
        task.cancel()


async def written(storage: MemoryStorage, *uids: str) -> None:
    async def look() -> bool:
        found = NodeReport.FromString(storage.load(STATUSES) or b"")
        return sorted(one.uid for one in found.pods) == sorted(uids)

    await eventually(look, within=60, what=f"{uids} are kept")


async def test_the_next_agent_finds_them() -> None:
    storage = MemoryStorage()
    one, plain = pod_of("one"), pod_of("plain", asked=False)
    async with keeping(storage) as kept:
        kept.put(plain, report_of("plain"))
        kept.put(one, report_of("one"))
        await written(storage, "one")
    again = KeptStatuses(Keeper(storage)).restore({"one": one, "plain": plain})
    assert again["one"].status.containerStatuses[0].ready
    assert again["plain"] == plain
    assert not one.status.containerStatuses, "what came with the frame stays as it is"


async def test_a_deadline_needs_the_start_time() -> None:
    storage, pod = MemoryStorage(), pod_of("one", asked=False)
    pod.spec.activeDeadlineSeconds = 60
    async with keeping(storage) as kept:
        kept.put(pod, report_of("one"))
        await written(storage, "one")


async def test_what_is_gone_is_forgotten() -> None:
    storage = MemoryStorage()
    async with keeping(storage) as kept:
        for uid in ("one", "two", "three"):
            kept.put(pod_of(uid), report_of(uid))
        kept.put(pod_of("one"), report_of("one", gone=True))
        kept.put(None, report_of("two"))
        await written(storage, "three")
        assert KeptStatuses(Keeper(storage)).restore({}) == {}


def test_a_damaged_file_costs_the_statuses_only() -> None:
    storage = MemoryStorage()
    storage.save(STATUSES, b"\xff\xff")
    pods = {"one": pod_of("one")}
    assert KeptStatuses(Keeper(storage)).restore(pods) == pods
