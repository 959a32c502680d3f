"""Who is let in, who is not and why, and what Node that makes."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.master.dispatcher.conftest import Hand, MasterParts, eventually, request


async def refused(hand: Hand, name: str, **more: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await hand.register(name, **more)
    return caught.value.code(), caught.value.details() or ""


async def test_a_machine_with_a_token_becomes_a_node(master: MasterParts, hand: Hand) -> None:
    answer = await hand.register("node-1", token=master.token)
    node = master.read("Node", "", "node-1")
    assert answer.pod_cidr == node.spec.podCIDR == "10.244.0.0/24"
    assert (answer.cluster, answer.cluster_cidr, answer.service_cidr) == ("test", "10.244.0.0/16", "10.96.0.0/16")
    assert answer.node_uid == node.metadata.uid and answer.credential and answer.heartbeat_period_ms == 1000
    assert dict(node.metadata.labels) == {
        "kubernetes.io/hostname": "node-1",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
    }
    assert {a.type: a.address for a in node.status.addresses} == {"InternalIP": "192.0.2.7", "Hostname": "node-1"}
    assert node.status.capacity["cpu"].value == "4" and node.status.nodeInfo.machineID == "m1"
    [ready] = node.status.conditions
    assert (ready.type, ready.status, ready.reason) == ("Ready", "False", "NodeRegistered")


async def test_every_node_has_its_own_pod_cidr(master: MasterParts, hand: Hand) -> None:
    cidrs = {(await hand.register(f"node-{i}", token=master.token, machine=f"m{i}")).pod_cidr for i in range(5)}
    assert len(cidrs) == 5


async def test_a_registration_that_is_given_up_half_way_gives_its_pod_cidr_to_nobody_else(master: MasterParts) -> None:
    registrar = master.dispatcher._registrar
    for number in range(10):
        name = f"node-{number}"
        async with asyncio.TaskGroup() as group:
            task = group.create_task(registrar.register(request(name, token=master.token, machine=name)))
            while name not in registrar._reserved and not task.done():
                await asyncio.sleep(0)
            # As when the agent's patience ends: its write is on the way and lands all the same.
            task.cancel()
        await registrar.register(request(f"other-{number}", token=master.token, machine=f"o{number}"))
    cidrs = [node.spec.podCIDR for node in master.store.list("Node")]
    assert len(cidrs) > 10, "none of the given up registrations was written: the test shows nothing"
    assert len(set(cidrs)) == len(cidrs)


async def test_bad_tokens_are_refused_with_a_reason(master: MasterParts, hand: Hand) -> None:
    for token, words in {"": "needs a join token", "nonsense": "malformed", "abc123." + "0" * 32: "unknown"}.items():
        code, text = await refused(hand, "node-1", token=token)
        assert code is grpc.StatusCode.UNAUTHENTICATED and words in text
    assert master.store.list("Node") == []


async def test_a_bad_name_is_refused(master: MasterParts, hand: Hand) -> None:
    code, text = await refused(hand, "Node_1", token=master.token)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "metadata.name" in text


async def test_a_known_node_comes_back_with_its_credential(master: MasterParts, hand: Hand) -> None:
    first = await hand.register("node-1", token=master.token)
    again = await hand.register("node-1", credential=first.credential)
    assert again.credential == first.credential and again.pod_cidr == first.pod_cidr
    assert again.session_id != first.session_id
    code, text = await refused(hand, "node-1", credential="wrong")
    assert code is grpc.StatusCode.UNAUTHENTICATED and "join again with a token" in text


async def test_another_machine_cannot_take_a_live_nodes_name(master: MasterParts, hand: Hand) -> None:
    first = await hand.register("node-1", token=master.token, machine="m1")
    code, text = await refused(hand, "node-1", token=master.token, machine="m2")
    assert code is grpc.StatusCode.ALREADY_EXISTS and "another --name" in text
    again = await hand.register("node-1", token=master.token, machine="m1")
    assert again.node_uid == first.node_uid and again.credential != first.credential


async def test_a_removed_node_needs_a_token_again(master: MasterParts, hand: Hand) -> None:
    first = await hand.register("node-1", token=master.token)
    await master.resources.delete("Node", "", "node-1")
    await eventually(lambda: master.dispatcher.sessions.of("node-1") is None)
    code, _ = await refused(hand, "node-1", credential=first.credential)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    again = await hand.register("node-1", token=master.token)
    assert again.node_uid != first.node_uid


async def test_labels_given_by_users_stay(master: MasterParts, hand: Hand) -> None:
    first = await hand.register("node-1", token=master.token)
    await master.resources.mutate("Node", "", "node-1", lambda node: node.metadata.labels.update({"disk": "ssd"}))
    await hand.register("node-1", credential=first.credential)
    assert master.read("Node", "", "node-1").metadata.labels["disk"] == "ssd"
