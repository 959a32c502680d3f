"""A deleted pod and the proxies, over real gRPC: it is released when all of them have the table without it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from master.dispatcher import dispatcher
from protos import agent_pb2, core_pb2
from tests.master.dispatcher.conftest import Follower, Hand, MasterParts, eventually

PLACE = ("10.244.0.5", 80)


@pytest.fixture
async def other(master: MasterParts) -> AsyncIterator[Hand]:
    one = Hand(master.target)
    yield one
    await one.close()


async def serving(master: MasterParts) -> core_pb2.Pod:
    """A pod on node-1 behind a service."""
    pod = await master.pod("web", "node-1")
    meta = core_pb2.ObjectMeta(name="web", namespace="default")
    service = core_pb2.Service(metadata=meta)
    service.spec.ports.add(port=80)
    await master.resources.create(service)
    ends = core_pb2.Endpoints(metadata=meta)
    subset = ends.subsets.add()
    subset.addresses.add(ip=PLACE[0]).targetRef.CopyFrom(
        core_pb2.ObjectReference(kind="Pod", namespace="default", name="web", uid=pod.metadata.uid)
    )
    subset.ports.add(port=PLACE[1])
    await master.resources.create(ends)
    return pod


async def without(routes: Follower) -> tuple[str, int]:
    """The revision of the first table that has the service and no endpoint of it."""
    await routes.until(lambda items: "service/default/web" in items and not _ends(items))
    return routes.reader.epoch, routes.reader.revision


def _ends(items: dict[str, agent_pb2.Item]) -> list[agent_pb2.RouteEndpoint]:
    return list(items["service/default/web"].service.ports[0].endpoints)


async def test_released_when_every_proxy_has_it_out_and_its_connections_are_done(
    master: MasterParts, hand: Hand, other: Hand
) -> None:
    await hand.register("node-1", token=master.token)
    await other.register("node-2", token=master.token, machine="m2")
    pod = await serving(master)
    mine, theirs, frames = hand.routes(), other.routes(), hand.assignments()
    await mine.until(lambda items: "service/default/web" in items and bool(_ends(items)))
    key = f"pod/{pod.metadata.uid}"
    await master.resources.delete("Pod", "default", "web")
    items = await frames.until(lambda items: key in items and items[key].pod.metadata.HasField("deletionTimestamp"))
    assert not items[key].released
    # The Endpoints still name it; the table does not.
    epoch, revision = await without(mine)
    await without(theirs)
    draining = [agent_pb2.DrainingEndpoint(ip=PLACE[0], port=PLACE[1], connections=1)]
    await hand.report(routes_epoch=epoch, routes_revision=revision)
    held = master.dispatcher._holds._holds[pod.metadata.uid]
    assert held.quiet_since is None
    await other.report(routes_epoch=epoch, routes_revision=revision, draining=draining)
    await eventually(lambda: master.dispatcher._holds._holds[pod.metadata.uid].quiet_since is not None)
    await other.report(routes_epoch=epoch, routes_revision=revision)
    start = time.monotonic()
    items = await frames.until(lambda items: items[key].released)
    # Not at the end of the pod's whole patience, which is half a minute.
    assert time.monotonic() - start < 10


async def test_a_proxy_that_does_not_answer_costs_two_seconds(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    pod = await serving(master)
    frames = hand.assignments()
    key = f"pod/{pod.metadata.uid}"
    await frames.until(lambda items: key in items)
    start = time.monotonic()
    await master.resources.delete("Pod", "default", "web")
    await frames.until(lambda items: items[key].released)
    assert 1.9 < time.monotonic() - start < 20


async def test_a_pod_without_traffic_is_released_in_the_same_frame(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    pod = await master.pod("job", "node-1")
    frames = hand.assignments()
    key = f"pod/{pod.metadata.uid}"
    await frames.until(lambda items: key in items)
    await master.resources.delete("Pod", "default", "job")
    items = await frames.until(lambda items: items[key].pod.metadata.HasField("deletionTimestamp"))
    assert items[key].released


async def test_a_shorter_grace_of_nothing_releases_what_is_held(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    pod = await serving(master)
    await hand.routes().until(lambda items: "service/default/web" in items)
    await master.resources.delete("Pod", "default", "web")
    await eventually(lambda: pod.metadata.uid in master.dispatcher._holds._holds)
    await master.resources.delete("Pod", "default", "web", grace_seconds=0)
    await eventually(lambda: pod.metadata.uid not in master.dispatcher._holds._holds)


async def test_changes_that_follow_on_one_another_travel_together(
    master: MasterParts, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "SPREAD_SECONDS_EACH", 1.0)
    await hand.register("node-1", token=master.token)
    routes = hand.routes()
    await routes.until(lambda items: True)
    before = routes.frames
    for number in range(20):
        service = core_pb2.Service(metadata=core_pb2.ObjectMeta(name=f"s{number}", namespace="default"))
        service.spec.ports.add(port=80)
        await master.resources.create(service)
    await routes.until(lambda items: sum(key.startswith("service/") for key in items) == 20)
    assert routes.frames - before < 10
