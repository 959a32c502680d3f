"""docker-compose.yml as it is, by the real `docker compose`: up, served, broken, and nothing left when it is down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.compose import NODES, ROOT, Compose, docker
from tests.e2e.support import ready
from tests.harness import CommandFailed, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

# The tests of one cluster, in this order: the last one takes it down.
PAIR = """
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  nodeSelector: {kubernetes.io/hostname: node1}
  terminationGracePeriodSeconds: 1
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: server
    image: sampan:dev
    command: [python3, -c]
    args:
    - |
      import http.server, pathlib, socket
      pathlib.Path("/data/word").write_text("ahoy")
      class WhoAsks(http.server.BaseHTTPRequestHandler):
          def do_GET(self):
              self.send_response(200)
              self.end_headers()
              self.wfile.write(f"{socket.gethostname()} hears {self.client_address[0]}".encode())
          def log_message(self, *_): pass
      http.server.ThreadingHTTPServer(("", 8080), WhoAsks).serve_forever()
    volumeMounts: [{name: shared, mountPath: /data}]
  - name: client
    image: sampan:dev
    command: [sleep, "1000"]
    volumeMounts: [{name: shared, mountPath: /also, readOnly: true}]
"""
ON_THE_NODE = """
apiVersion: v1
kind: Pod
metadata: {name: joined}
spec:
  hostNetwork: true
  nodeSelector: {kubernetes.io/hostname: node2}
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: sampan:dev, command: [python3, -m, http.server, "8095", --directory, /etc]}
---
apiVersion: v1
kind: Pod
metadata: {name: published}
spec:
  nodeSelector: {kubernetes.io/hostname: node2}
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: sampan:dev
    command: [python3, -m, http.server, "8080", --directory, /etc]
    ports: [{containerPort: 8080, hostPort: 8096}]
"""
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=15).read().decode())"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(sampan_image: str) -> AsyncIterator[Compose]:
    async with Compose() as made:

        async def all_ready() -> bool:
            return await made.ready() == list(NODES)

        await eventually(all_ready, within=90, what="three nodes Ready", every=0.3)
        yield made


async def ready_pods(cluster: Compose, count: int, *words: str) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        pods = await cluster.get("pods", *words)
        return pods if len(pods) == count and all(map(ready, pods)) else []

    return await eventually(look, within=90, what=f"{count} ready pods of {' '.join(words)}", every=0.3)


async def serves_in_turn(cluster: Compose, node: str, pods: list[dict[str, Any]]) -> None:
    """Every pod answers as often as every other, at this node."""
    wanted = {f"{p['metadata']['name']} on {p['spec']['nodeName']}": 3 for p in pods}

    async def asked() -> Counter[str]:
        return Counter([await cluster.curl(node) for _ in range(3 * len(pods))])

    async def even() -> bool:
        return await asked() == wanted and await asked() == wanted

    # Just after the last pod became ready a node may not have heard of it yet, and on a machine that is busy with
    # something else a probe may fail: then a pod is out of turn for a moment.
    await eventually(even, within=120, what=f"{node} knows all pods and asks them in turn", every=0.2)


async def test_each_published_port_answers_from_pods_on_several_nodes_evenly_in_turn(cluster: Compose) -> None:
    said = await cluster.sampan("apply", "-f", str(ROOT / "examples" / "web.yaml"))
    assert "service/web created" in said
    pods = await ready_pods(cluster, 4, "-l", "app=web")
    assert len({p["spec"]["nodeName"] for p in pods}) >= 2
    first = ".".join(cluster.cidr.split(".")[:2]) + "."
    assert all(p["status"]["podIP"].startswith(first) for p in pods)
    for node in NODES:
        await serves_in_turn(cluster, node, pods)


async def test_containers_of_a_pod_share_and_a_pod_elsewhere_reaches_it_under_its_own_address(cluster: Compose) -> None:
    await cluster.sampan("apply", "-f", "-", input=PAIR)
    try:
        (pair,) = await ready_pods(cluster, 1, "pair")
        ids = await cluster.pod_containers("pod-name=pair", "kind=container")
        (client,) = [id for name, id in ids.items() if "_client_" in name]

        async def from_within(container: str, url: str) -> str:
            return (await docker("exec", container, "python3", "-c", ASK, url)).strip()

        own = "http://localhost:8080/"
        assert await eventually(lambda: from_within(client, own), within=60, what="localhost") == "pair hears 127.0.0.1"
        assert (await docker("exec", client, "cat", "/also/word")) == "ahoy"
        assert (await docker("exec", client, "hostname")).strip() == "pair"
        web = await cluster.get("pods", "-l", "app=web")
        other = next(p for p in web if p["spec"]["nodeName"] != "node1")
        (container,) = (await cluster.pod_containers(f"pod-uid={other['metadata']['uid']}", "kind=container")).values()
        # The address that the server sees is the pod's own: nothing between them translates.
        heard = await from_within(container, f"http://{pair['status']['podIP']}:8080/")
        assert heard == f"pair hears {other['status']['podIP']}"
    finally:
        await cluster.sampan("delete", "pod", "pair", "--now")


async def test_pods_on_the_nodes_own_network_and_ports_answer_at_its_address(cluster: Compose) -> None:
    await cluster.sampan("apply", "-f", "-", input=ON_THE_NODE)
    try:
        (joined,), (published,) = await ready_pods(cluster, 1, "joined"), await ready_pods(cluster, 1, "published")
        address = joined["status"]["hostIP"]
        assert joined["status"]["podIP"] == address == published["status"]["hostIP"] != published["status"]["podIP"]
        asker = await cluster.container("node1")

        async def name_at(port: int) -> str:
            return (await docker("exec", asker, "python3", "-c", ASK, f"http://{address}:{port}/hostname")).strip()

        async def answers() -> bool:
            return (await name_at(8095), await name_at(8096)) == ("node2", "published")

        await eventually(answers, within=60, what="both ports of the node answer", every=0.3)
    finally:
        await cluster.sampan("delete", "pod", "joined", "published", "--now")


async def test_an_agent_that_is_killed_leaves_its_containers_as_they_are(cluster: Compose) -> None:
    before = await cluster.web_containers()
    assert len(before) >= 4
    node = await cluster.container("node2")

    async def agent() -> list[str]:
        return (await docker("exec", node, "pgrep", "-f", "--", "-m node_agent")).split()

    async def alone() -> list[str]:
        found = await agent()
        return found if len(found) == 1 else []

    # A command that it runs has its words for a moment, too.
    (was,) = await eventually(alone, within=60, what="one agent")
    await docker("exec", node, "bash", "-c", f"kill -9 {was}")
    await cluster.curl("node2")

    async def another() -> bool:
        return was not in await agent()

    await eventually(another, within=60, what="the supervisor starts another agent")
    # It has looked at all pods when it has reported them: a pod that is new to it runs.
    await cluster.sampan("scale", "rc/web", "--replicas=6")
    try:
        pods = await ready_pods(cluster, 6, "-l", "app=web")
        now = await cluster.web_containers()
        assert before.items() <= now.items()
        assert all(p["status"]["containerStatuses"][0]["restartCount"] == 0 for p in pods)
    finally:
        await cluster.sampan("scale", "rc/web", "--replicas=4")
    await serves_in_turn(cluster, "node2", await ready_pods(cluster, 4, "-l", "app=web"))


async def test_a_master_that_is_restarted_has_lost_nothing(cluster: Compose) -> None:
    kinds = "rc,svc,cm,pods,nodes,secrets"

    async def objects() -> dict[str, str]:
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"] for o in await cluster.get(kinds, "-A")}

    await ready_pods(cluster, 4, "-l", "app=web")
    before, containers = await objects(), await cluster.web_containers()
    served = 0
    async with asyncio.TaskGroup() as group:
        restart = group.create_task(cluster.compose("restart", "master"))
        while not restart.done():
            await cluster.curl(NODES[served % 3])
            served += 1
    assert served > 3

    async def again() -> bool:
        return await cluster.ready() == list(NODES)

    await eventually(again, within=90, what="all nodes Ready again", every=0.3)
    assert await objects() == before
    assert await cluster.web_containers() == containers
    assert await cluster.sampan("apply", "-f", str(ROOT / "examples" / "web.yaml")) == (
        "configmap/web unchanged\nreplicationcontroller/web unchanged\nservice/web unchanged\n"
    )


async def test_down_leaves_nothing_also_of_nodes_that_are_dead(cluster: Compose) -> None:
    assert await cluster.remains()
    # Killed by hand, so that the engine does not start them again: their pods run on without an agent.
    await docker("kill", *[await cluster.container(node) for node in ("node2", "node3")])
    assert await cluster.pod_containers("node=node2", "kind=container")
    await cluster.down()
    assert await cluster.remains() == []
    with pytest.raises(CommandFailed, match="cannot reach the master"):
        await cluster.sampan("get", "nodes")
    # There is nothing to do, and that is no failure.
    await cluster.down()
