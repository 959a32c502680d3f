"""Rollouts nobody fears: updates and a drained node under load fail no request, and a bad update harms nobody."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.e2e.load import PORT, Load, deployment, steady
from tests.e2e.standins import named, why_not
from tests.e2e.support import ask, containers_of, pods, ready, ready_pods, served
from tests.harness import BUSYBOX, Cluster, eventually
from tests.harness.commands import CommandFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

# Any image with Python.
PYTHON = "debian:latest"
REPLICAS, RATE, UPDATES = 6, 300.0, 2
SELECTOR = "app=steady"
BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: steady}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: steady}}}
"""


@dataclass(frozen=True)
class Bad:
    """An update that can't work: what it changes, the exit code of `apply --wait`, and what the reason says."""

    name: str
    port: int
    container: str
    code: int
    reason: str
    log: str = ""

    @property
    def annotations(self) -> str:
        return '{sampan.dev/auto-rollback: "true"}' if self.code == 2 else "{}"


GOOD = f"""image: {BUSYBOX}
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]"""
BAD = (
    Bad("bad-image", 8771, "image: 127.0.0.1:9/missing:1", 3, r"(ErrImagePull|ImagePullBackOff): .*127\.0\.0\.1:9"),
    Bad(
        "crashing",
        8772,
        f'image: {BUSYBOX}\n        command: [sh, -c, "echo no such table; exit 7"]',
        2,
        r"(CrashLoopBackOff|Error): ended with exit code 7, restarted",
        "no such table",
    ),
    Bad(
        "unready",
        8773,
        f"{GOOD}\n        readinessProbe: {{exec: {{command: [test, -e, /never]}}, periodSeconds: 1}}",
        2,
        r"NotReady: it runs but does not say it is ready",
    ),
    Bad(
        "too-big",
        8774,
        f"{GOOD}\n        resources: {{requests: {{memory: 900Gi}}}}",
        3,
        r"Unschedulable: .*node1: needs 900Gi memory",
    ),
)
DAEMONS = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: logger}}
spec:
  selector: {{matchLabels: {{app: logger}}}}
  template:
    metadata: {{labels: {{app: logger}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: logger
        image: {BUSYBOX}
        imagePullPolicy: IfNotPresent
        command: [sleep, "100000"]
"""
# A rollout that goes nowhere for this long has failed. A bad one has had its reason long before; one of good pods, on
# a machine that is busy, must not have failed.
BAD_DEADLINE, GOOD_DEADLINE = 15, 600


def workload(bad: Bad, container: str) -> str:
    deadline = GOOD_DEADLINE if container == GOOD else BAD_DEADLINE
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {bad.name}, annotations: {bad.annotations}}}
spec:
  replicas: 2
  progressDeadlineSeconds: {deadline}
  selector: {{matchLabels: {{app: {bad.name}}}}}
  template:
    metadata: {{labels: {{app: {bad.name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        {container}
---
apiVersion: v1
kind: Service
metadata: {{name: {bad.name}}}
spec:
  type: NodePort
  selector: {{app: {bad.name}}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {bad.port}}}]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(hosts=3, images=(BUSYBOX,)) as made, named(made.hosts, [PYTHON]):
        await made.apply(deployment(PYTHON, REPLICAS, 1, 0) + "---" + BUDGET)
        await made.sampan("rollout", "status", "deployment/steady", timeout=90)
        await ready_pods(made, REPLICAS, within=90, selector=SELECTOR)
        for node in made.nodes:
            # From here on every request has to succeed, at every node.
            await served(node.host, port=PORT)
        yield made


async def flowing(load: Load) -> bool:
    await asyncio.sleep(0)
    return load.asked > 50


async def test_rolling_updates_fail_no_request(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in await ready_pods(cluster, REPLICAS, selector=SELECTOR)}
    async with steady([node.host.address for node in cluster.nodes], rate=RATE) as load:
        await eventually(lambda: flowing(load), within=90, what="requests flow")
        for version in range(1, UPDATES + 1):
            load.phase = f"update {version}"
            text = deployment(PYTHON, REPLICAS, 1, version)
            said = await cluster.sampan("apply", "--wait", "-f", "-", input=text, timeout=180)
            assert 'deployment "steady" successfully rolled out' in said
            now = {pod["metadata"]["uid"] for pod in await ready_pods(cluster, REPLICAS, selector=SELECTOR)}
            assert not now & before
            before = now
    assert load.asked > 500
    assert not load.failed, (dict(load.failed), load.when)


async def test_a_drained_node_fails_no_request(cluster: Cluster) -> None:
    found = await ready_pods(cluster, REPLICAS, selector=SELECTOR)
    victim = Counter(pod["spec"]["nodeName"] for pod in found).most_common(1)[0][0]
    here = [pod for pod in found if pod["spec"]["nodeName"] == victim]
    async with steady([node.host.address for node in cluster.nodes], rate=RATE) as load:
        await eventually(lambda: flowing(load), within=90, what="requests flow")
        said = await cluster.sampan("drain", victim, timeout=120)
        assert all(pod["metadata"]["name"] in said for pod in here)
        found = await ready_pods(cluster, REPLICAS, selector=SELECTOR)
        assert all(pod["spec"]["nodeName"] != victim for pod in found)
        await cluster.sampan("uncordon", victim)
    assert not load.failed, (dict(load.failed), load.when)


async def test_bad_updates_harm_nobody(cluster: Cluster) -> None:
    await cluster.apply("---".join(workload(bad, GOOD) for bad in BAD))
    for bad in BAD:
        await cluster.sampan("rollout", "status", f"deployment/{bad.name}", timeout=90)
    async with asyncio.TaskGroup() as group:
        for bad in BAD:
            group.create_task(harmless(cluster, bad), name=bad.name)


async def test_daemons_roll_on_every_node_and_back(cluster: Cluster) -> None:
    selector, name = "app=logger", "daemonset/logger"
    said = await cluster.sampan("apply", "--wait", "-f", "-", input=DAEMONS, timeout=120)
    assert "successfully rolled out" in said
    first = await commands(cluster, selector)
    assert set(first.values()) == {"100000"} and {where for _, where in first} == {n.name for n in cluster.nodes}
    await cluster.sampan("rollout", "restart", name)
    assert "successfully rolled out" in await cluster.sampan("rollout", "status", name, timeout=120)
    second = await commands(cluster, selector)
    assert len(second) == len(first) and not second.keys() & first.keys(), "every pod is another one"
    await cluster.sampan("apply", "--wait", "-f", "-", input=DAEMONS.replace("100000", "200000"), timeout=120)
    assert set((await commands(cluster, selector)).values()) == {"200000"}
    history = await cluster.sampan("rollout", "history", name)
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2", "3"], history
    await cluster.sampan("rollout", "undo", name, "--to-revision=1")
    assert "successfully rolled out" in await cluster.sampan("rollout", "status", name, timeout=120)
    assert set((await commands(cluster, selector)).values()) == {"100000"}
    # One that can't start stops the rollout at maxUnavailable: the other nodes keep what they have.
    bad = DAEMONS.replace(f"image: {BUSYBOX}", "image: 127.0.0.1:9/missing:1")
    before = await commands(cluster, selector)
    error = await refused(cluster, "apply", "--wait", "--timeout=30s", "-f", "-", input=bad)
    assert error.code == 3 and re.search(r"(ErrImagePull|ImagePullBackOff)", error.stderr), error
    assert len((await commands(cluster, selector)).keys() & before.keys()) == len(before) - 1
    await cluster.sampan("rollout", "undo", name)
    assert "successfully rolled out" in await cluster.sampan("rollout", "status", name, timeout=120)
    # The others were left alone.
    assert len((await commands(cluster, selector)).keys() & before.keys()) == len(before) - 1


async def commands(cluster: Cluster, selector: str) -> dict[tuple[str, str], str]:
    """How long each ready pod sleeps, by (uid, node)."""
    return {
        (pod["metadata"]["uid"], pod["spec"]["nodeName"]): pod["spec"]["containers"][0]["command"][1]
        for pod in await pods(cluster, selector)
        if ready(pod)
    }


async def harmless(cluster: Cluster, bad: Bad) -> None:
    """The update fails and says why; meanwhile and afterwards the old pods answer, in the same containers."""
    selector = f"app={bad.name}"
    before = {pod["metadata"]["name"] for pod in await ready_pods(cluster, 2, selector=selector)}
    ids = await running(cluster, before)
    assert len(ids) == 2
    address = cluster.nodes[0].host.address
    await eventually(lambda: ask(address, bad.port), within=60, what=f"{bad.name} answers")
    failed: list[str] = []
    answered: set[str] = set()
    async with asyncio.TaskGroup() as group:
        visitor = group.create_task(visit(address, bad.port, answered, failed))
        applied = await refused(cluster, "apply", "--wait", "-f", "-", input=workload(bad, bad.container))
        status = await refused(cluster, "rollout", "status", f"deployment/{bad.name}", "--watch=false")
        visitor.cancel()
    for error in (applied, status):
        assert error.code == bad.code, error
        assert re.search(bad.reason, error.stderr.splitlines()[0]), error.stderr
    first, *rest = applied.stderr.splitlines()
    assert bad.log in "\n".join(rest)
    assert not failed and answered and answered <= before, (failed, answered, before)
    if bad.code == 2:
        assert "rolled back" in first
    else:
        assert "rollout undo" in first
        await cluster.sampan("rollout", "undo", f"deployment/{bad.name}")
        await cluster.sampan("rollout", "status", f"deployment/{bad.name}", timeout=120)
    now = {pod["metadata"]["name"] for pod in await ready_pods(cluster, 2, selector=selector)}
    assert now == before
    assert await running(cluster, now) == ids


async def running(cluster: Cluster, names: set[str]) -> dict[str, str]:
    """Ids of the pods' running containers, by name."""
    found: dict[str, str] = {}
    for node in cluster.nodes:
        for name in names:
            found |= await containers_of(node.host, name)
    return found


async def visit(address: str, port: int, answered: set[str], failed: list[str]) -> None:
    """One request after another until it is cancelled."""
    while True:
        try:
            answered.add(await ask(address, port))
        except (OSError, TimeoutError) as error:
            failed.append(repr(error))
        await asyncio.sleep(0.05)


async def refused(cluster: Cluster, *words: str, input: str | None = None) -> CommandFailed:
    with pytest.raises(CommandFailed) as caught:
        await cluster.sampan(*words, input=input, timeout=120)
    return caught.value
