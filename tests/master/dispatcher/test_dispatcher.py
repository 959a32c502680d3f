"""Frames out and reports in over real gRPC, one node at a time."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from protos import agent_pb2, core_pb2
from tests.master.dispatcher.conftest import Hand, MasterParts, eventually

READY = agent_pb2.NodeStatusReport(
    conditions=[core_pb2.NodeCondition(type="Ready", status="True", reason="AgentReady")]
)


def running(pod: core_pb2.Pod, phase: str = "Running", **more: Any) -> agent_pb2.PodReport:
    status = core_pb2.PodStatus(phase=phase, podIP="10.244.0.5", **more)
    meta = pod.metadata
    return agent_pb2.PodReport(uid=meta.uid, namespace=meta.namespace, name=meta.name, status=status)


async def config(master: MasterParts, name: str, **data: str) -> None:
    meta = core_pb2.ObjectMeta(name=name, namespace="default")
    await master.resources.create(core_pb2.ConfigMap(metadata=meta, data=data))


def uses(name: str) -> dict[str, Any]:
    source = core_pb2.EnvFromSource(
        configMapRef=core_pb2.ConfigMapEnvSource(localObjectReference=core_pb2.LocalObjectReference(name=name))
    )
    return {"containers": [core_pb2.Container(name="c", image="busybox", envFrom=[source])]}


async def test_a_node_gets_its_pods_with_what_they_use_and_nothing_else(master: MasterParts, hand: Hand) -> None:
    await config(master, "wanted", a="1")
    await config(master, "other", a="1")
    await hand.register("node-1", token=master.token)
    frames = hand.assignments()
    assert await frames.until(lambda items: True) == {}
    await master.pod("elsewhere", "node-2")
    pod = await master.pod("mine", "node-1", **uses("wanted"))
    items = await frames.until(lambda items: len(items) == 2)
    assert set(items) == {f"pod/{pod.metadata.uid}", "configmap/default/wanted"}
    await master.resources.mutate("ConfigMap", "default", "wanted", lambda c: c.data.update({"a": "2"}))
    items = await frames.until(lambda items: items["configmap/default/wanted"].configmap.data["a"] == "2")
    await master.resources.delete("Pod", "default", "mine", grace_seconds=7)
    key = f"pod/{pod.metadata.uid}"
    items = await frames.until(lambda items: items[key].pod.metadata.HasField("deletionTimestamp"))
    assert items[key].pod.metadata.deletionGracePeriodSeconds == 7
    await hand.report(pods=[agent_pb2.PodReport(uid=pod.metadata.uid, namespace="default", name="mine", gone=True)])
    assert await frames.until(lambda items: not items) == {}
    assert master.store.get("Pod", "default", "mine") is None


async def test_a_reported_status_is_stored_once_and_not_sent_back(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    pod = await master.pod("web", "node-1")
    frames = hand.assignments()
    await frames.until(lambda items: len(items) == 1)
    await hand.report(pods=[running(pod)], complete=True, node=READY)
    stored = master.read("Pod", "default", "web")
    assert (stored.status.phase, stored.status.podIP) == ("Running", "10.244.0.5")
    assert any(c.type == "PodScheduled" and c.status == "True" for c in stored.status.conditions)
    assert master.read("Node", "", "node-1").status.conditions[0].status == "True"
    revision = master.store.revision
    await hand.report(pods=[running(pod)])
    assert master.store.revision == revision
    await master.pod("second", "node-1")
    seen = frames.frames
    await frames.until(lambda items: len(items) == 2)
    assert frames.frames == seen + 1, "the first pod's status came back as a frame"


async def test_a_stale_or_foreign_report_changes_nothing(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    mine, other = await master.pod("mine", "node-1"), await master.pod("other", "node-2")
    await hand.report(pods=[running(mine, "Succeeded"), running(other, "Failed")])
    await hand.report(pods=[running(mine, "Running")])
    replaced = running(mine, "Failed")
    replaced.uid = "another"
    await hand.report(pods=[replaced])
    assert master.read("Pod", "default", "mine").status.phase == "Succeeded"
    assert master.read("Pod", "default", "other").status.phase == "Pending"


async def test_services_with_their_ready_endpoints_and_the_nodes_reach_every_node(
    master: MasterParts, hand: Hand
) -> None:
    await hand.register("node-1", token=master.token)
    frames = hand.routes()
    await frames.until(lambda items: "node/node-1" in items)
    service = core_pb2.Service(metadata=core_pb2.ObjectMeta(name="web", namespace="default"))
    service.spec.ports.add(name="http", port=80, targetPort=core_pb2.IntOrString(type=1, strVal="www"))
    await master.resources.create(service)
    items = await frames.until(lambda items: "service/default/web" in items)
    assert items["service/default/web"].service.ports[0].port == 80
    assert not items["service/default/web"].service.ports[0].endpoints
    endpoints = core_pb2.Endpoints(metadata=core_pb2.ObjectMeta(name="web", namespace="default"))
    subset = endpoints.subsets.add(ports=[core_pb2.EndpointPort(name="http", port=8080, protocol="TCP")])
    subset.addresses.add(ip="10.244.0.9", nodeName="node-1")
    subset.notReadyAddresses.add(ip="10.244.0.10", nodeName="node-1")
    await master.resources.create(endpoints)
    items = await frames.until(lambda items: bool(items["service/default/web"].service.ports[0].endpoints))
    [end] = items["service/default/web"].service.ports[0].endpoints
    assert (end.ip, end.port, end.node_name) == ("10.244.0.9", 8080, "node-1")
    assert items["service/default/web"].service.cluster_ip.startswith("10.96.")
    await master.resources.delete("Service", "default", "web")
    await frames.until(lambda items: "service/default/web" not in items)


async def test_a_newer_registration_ends_the_older_session(master: MasterParts, hand: Hand) -> None:
    first = await hand.register("node-1", token=master.token)
    frames = hand.assignments()
    await frames.until(lambda items: True)
    assert master.dispatcher.nodes.connected("node-1")
    await hand.register("node-1", credential=first.credential)
    with pytest.raises(EOFError, match="newer registration"):
        await frames.step()
    old, hand.session = hand.session, first.session_id
    with pytest.raises(EOFError, match="register again"):
        await hand.assignments().step()
    hand.session = old
    await hand.assignments().until(lambda items: True)


async def test_a_removed_nodes_session_ends(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    frames = hand.assignments()
    await frames.until(lambda items: True)
    await master.resources.delete("Node", "", "node-1")
    with pytest.raises(EOFError, match="removed from the cluster"):
        await frames.step()


async def test_events_of_a_node_are_recorded_when_they_are_its_own(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    mine, other = await master.pod("mine", "node-1"), await master.pod("other", "node-2")
    events = []
    for pod in (mine, other):
        about = core_pb2.ObjectReference(kind="Pod", namespace="default", name=pod.metadata.name, uid=pod.metadata.uid)
        events.append(agent_pb2.AgentEvent(involved=about, type="Normal", reason="Started", message="go"))
    await hand.report(events=events)
    about_pods = [event.involvedObject.name for event in master.store.list("Event") if event.reason == "Started"]
    assert about_pods == ["mine"]


async def test_each_report_is_a_heartbeat_and_a_lapse_asks_for_a_new_session(
    master: MasterParts, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hand.register("node-1", token=master.token)
    ack = await hand.report(complete=True)
    assert (ack.sequence, ack.heartbeat_period_ms) == (1, 1000)
    assert master.dispatcher.nodes.silent_for("node-1") < 1
    clock = master.dispatcher.nodes._clock
    monkeypatch.setattr(master.dispatcher.nodes, "_clock", lambda: clock() + 10)
    with pytest.raises(grpc.aio.AioRpcError, match="register again"):
        await hand.report()


async def test_a_report_for_a_session_nobody_knows_is_refused(master: MasterParts, hand: Hand) -> None:
    hand.session = "nonsense"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await hand.report()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_status_writes_of_one_report_share_commits(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    pods = [await master.pod(f"p{i}", "node-1") for i in range(30)]
    await hand.report(pods=[running(pod) for pod in pods])
    await eventually(lambda: all(master.read("Pod", "default", f"p{i}").status.phase == "Running" for i in range(30)))


async def set_data(master: MasterParts, name: str, text: str) -> None:
    await master.resources.mutate("ConfigMap", "default", name, lambda found: found.data.update({"a": text}))


async def test_a_slow_reader_gets_fewer_and_newer_frames_and_delays_nobody(master: MasterParts, hand: Hand) -> None:
    await hand.register("slow", token=master.token)
    await config(master, "large", a="x" * 500_000)
    await master.pod("p", "slow", **uses("large"))
    slow = hand.assignments()
    await slow.until(lambda items: len(items) == 2)
    quick = Hand(master.target)
    try:
        await quick.register("quick", token=master.token, machine="m2")
        fast = quick.assignments()
        await fast.until(lambda items: True)
        for number in range(60):
            await set_data(master, "large", f"{number:03}" + "x" * 500_000)
        await master.pod("q", "quick")
        await fast.until(lambda items: len(items) == 1)
    finally:
        await quick.close()
    seen = slow.frames
    await slow.until(lambda items: items["configmap/default/large"].configmap.data["a"].startswith("059"))
    assert slow.frames - seen < 50, "every change was queued"


async def test_a_node_that_was_given_up_says_with_its_next_heartbeat_what_it_said_before(
    master: MasterParts, hand: Hand
) -> None:
    def ready() -> str:
        node: core_pb2.Node = master.read("Node", "", "node-1")
        return next(condition.status for condition in node.status.conditions if condition.type == "Ready")

    def give_up(node: core_pb2.Node) -> None:
        node.status.conditions[0].status = "Unknown"

    await hand.register("node-1", token=master.token)
    await hand.report(node=READY)
    await hand.report()
    assert ready() == "True"
    revision = master.store.revision
    await hand.report()
    assert master.store.revision == revision
    await master.resources.mutate("Node", "", "node-1", give_up, status=True)
    assert ready() == "Unknown"
    await hand.report()
    assert ready() == "True"
