"""The guestbook of the Kubernetes documentation: a Redis leader, followers, a front end; and the loss of any node."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.common.manifests import SHARED, files
from tests.e2e.standins import NAMES, named, why_not
from tests.e2e.support import ready
from tests.harness import BUSYBOX, Cluster, Node, eventually, run
from tests.harness.commands import CommandFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(
        not files(SHARED), reason=f"the documentation's examples are not beside the checkout ({SHARED})"
    ),
]

PARTS = (
    "application__guestbook__redis-leader-service.yaml",
    "application__guestbook__redis-follower-deployment.yaml",
    "application__guestbook__redis-follower-service.yaml",
    "application__guestbook__frontend-deployment.yaml",
    # The one beside the front end selects another label: it is of another time.
    "web__guestbook__frontend-service.yaml",
)
LEADER = "application__guestbook__redis-leader-deployment.yaml"
# Nobody can make another image with the digest that the manifest names.
LEADER_IMAGE, LEADER_STANDIN = "registry.k8s.io/redis@sha256:", "sampan-test/redis-leader:1"
# The guestbook of the documentation's earlier days: ReplicationControllers, and a master with replicas.
LEGACY = (
    "web__guestbook__redis-master-service.yaml",
    "web__guestbook__legacy__redis-master-controller.yaml",
    "web__guestbook__redis-replica-service.yaml",
    "web__guestbook__legacy__redis-replica-controller.yaml",
    "web__guestbook__frontend-service.yaml",
    "web__guestbook__legacy__frontend-controller.yaml",
)
CONTROLLERS = {"redis-master": 1, "redis-replica": 2, "frontend": 3}
DEPLOYMENTS = {"redis-leader": 1, "redis-follower": 2, "frontend": 3}
READS = 6


class Guestbook:
    """What a visitor does, through the node port of the front end on any node that is up."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.port = 0

    async def call(self, node: Node, **words: str) -> dict[str, str]:
        url = f"http://{node.host.address}:{self.port}/guestbook.php?{urlencode(words)}"
        return dict(json.loads(await run(["curl", "-sf", "-m", "20", url])))

    async def read(self, node: Node) -> str:
        return (await self.call(node, cmd="get", key="messages"))["data"]

    async def write(self, node: Node, text: str) -> bool:
        return await self.call(node, cmd="set", key="messages", value=text) == {"message": "Updated"}

    async def reads(self, node: Node, text: str) -> bool:
        """Every follower has it: reads take turns."""
        return [await self.read(node) for _ in range(READS)] == [text] * READS

    async def pods(self, selector: str) -> list[dict[str, Any]]:
        return [pod for pod in await self.cluster.get("pods", "-l", selector) if ready(pod)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guestbook() -> AsyncIterator[Guestbook]:
    """All of it, applied in the order of its page."""
    names = [name for name in NAMES if "redis" in name or "frontend" in name]
    async with Cluster(hosts=3, images=(BUSYBOX,)) as cluster, named(cluster.hosts, names):
        await cluster.apply(with_standin((SHARED / LEADER).read_text()))
        await cluster.sampan("apply", *[word for part in PARTS for word in ("-f", str(SHARED / part))])
        made = Guestbook(cluster)
        (service,) = await cluster.get("service", "frontend")
        made.port = service["spec"]["ports"][0]["nodePort"]
        await eventually(lambda: complete(cluster), within=90, what="all of the guestbook is available", every=0.3)
        yield made


def with_standin(text: str) -> str:
    """The leader's manifest with another image, and nothing else changed."""
    lines = [line if LEADER_IMAGE not in line else f"        image: {LEADER_STANDIN}" for line in text.splitlines()]
    assert sum(LEADER_STANDIN in line for line in lines) == 1
    return "\n".join(lines)


async def complete(cluster: Cluster) -> bool:
    found = await cluster.get("deployments")
    have = {one["metadata"]["name"]: one.get("status", {}).get("availableReplicas", 0) for one in found}
    return have == DEPLOYMENTS


async def test_overlapping_selectors_keep_their_pods_apart(guestbook: Guestbook) -> None:
    """Leader and follower have the same matchLabels; ownership and the template's hash tell their pods apart."""
    sets = {one["metadata"]["uid"]: one for one in await guestbook.cluster.get("replicasets")}
    assert len(sets) == len(DEPLOYMENTS)
    of_redis = await guestbook.pods("app.kubernetes.io/name=redis")
    assert len(of_redis) == 3
    for pod in of_redis:
        (owner,) = pod["metadata"]["ownerReferences"]
        labels = pod["metadata"]["labels"]
        replicaset = sets[owner["uid"]]
        assert replicaset["metadata"]["ownerReferences"][0]["name"] == f"redis-{labels['role']}"
        assert replicaset["spec"]["selector"]["matchLabels"]["pod-template-hash"] == labels["pod-template-hash"]
        assert pod["metadata"]["name"].startswith(f"redis-{labels['role']}-{labels['pod-template-hash']}-")


async def test_its_older_form_of_replication_controllers_works_unchanged(guestbook: Guestbook) -> None:
    """In a namespace of its own, where the names of its services are its own, too."""
    cluster = guestbook.cluster
    older = Guestbook(cluster)
    await cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: older}}")
    await cluster.sampan("apply", "-n", "older", *[word for part in LEGACY for word in ("-f", str(SHARED / part))])
    (service,) = await cluster.get("service", "frontend", "-n", "older")
    older.port = service["spec"]["ports"][0]["nodePort"]
    assert older.port != guestbook.port

    async def all_ready() -> bool:
        found = await cluster.get("replicationcontrollers", "-n", "older")
        have = {one["metadata"]["name"]: one.get("status", {}).get("readyReplicas", 0) for one in found}
        return have == CONTROLLERS

    await eventually(all_ready, within=90, what="all of the older guestbook is ready", every=0.3)
    first, second, _ = cluster.nodes
    await eventually(lambda: older.write(first, "of old"), within=60, what="a message", ignore=(CommandFailed,))
    await seen(older, second, "of old", within=60)

    async def other_text() -> bool:
        return await guestbook.read(second) != "of old"

    await eventually(other_text, within=60, what="the other guestbook has none of it", ignore=(CommandFailed,))
    await cluster.sampan("delete", "namespace", "older", "--wait=false")


async def test_it_works_through_names_and_outlives_any_node(guestbook: Guestbook) -> None:
    cluster = guestbook.cluster
    first, *_ = cluster.nodes
    await eventually(lambda: guestbook.write(first, "hello"), within=90, what="a message", ignore=(CommandFailed,))
    await seen(guestbook, first, "hello", within=90)
    (leader,) = await guestbook.pods("role=leader")
    victims = sorted(cluster.nodes, key=lambda node: node.name != leader["spec"]["nodeName"])
    # The leader's node, where most is lost; then one that has it not. The third is another of these.
    for number, victim in enumerate(victims[:2]):
        other = next(node for node in cluster.nodes if node is not victim)
        text = f"before node {number}"
        await eventually(lambda: guestbook.write(other, text), within=90, what="a write", ignore=(CommandFailed,))  # noqa: B023
        await seen(guestbook, other, text, within=90)
        start = time.monotonic()
        await victim.host.cut()
        await seen(guestbook, other, text, within=90)
        read = time.monotonic() - start
        after = f"after node {number}"
        await eventually(lambda: guestbook.write(other, after), within=90, what="a write", ignore=(CommandFailed,))  # noqa: B023
        written = time.monotonic() - start
        await eventually(lambda: elsewhere(guestbook, victim), within=120, what="all run elsewhere", every=0.3)  # noqa: B023
        replaced = time.monotonic() - start
        await seen(guestbook, other, after, within=90)
        whole = time.monotonic() - start
        print(
            f"{victim.name} cut off: read from all followers after {read:.1f} s, written after {written:.1f} s, "
            f"all replaced after {replaced:.1f} s, read again from all followers after {whole:.1f} s"
        )
        if number == 0:
            await victim.host.restore()
            await cluster.wait_ready(victim.name)
            await seen(guestbook, victim, after, within=90)


async def seen(guestbook: Guestbook, node: Node, text: str, *, within: float) -> None:
    await eventually(
        lambda: guestbook.reads(node, text), within=within, what=f"{text!r} is read", ignore=(CommandFailed,), every=0.2
    )


async def elsewhere(guestbook: Guestbook, victim: Node) -> bool:
    """Everything is available, and nothing that is ready is on `victim`."""
    pods = await guestbook.pods("tier")
    return len(pods) == sum(DEPLOYMENTS.values()) and all(pod["spec"]["nodeName"] != victim.name for pod in pods)
