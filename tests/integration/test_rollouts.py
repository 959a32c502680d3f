"""Rollouts through a real master process, simulated engines and the command line: failures told, undone, outlived."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.client import Client
from common import kinds
from common.tasks import Tasks
from node_agent.config import AgentConfig
from node_agent.runtime.script import Answer, Asked, Behaviour
from node_agent.runtime.seam import ContainerSpec, ImageError, ImageSeen, RegistryAuth
from node_agent.simulate import LastingRuntime
from tests.integration.master_process import MasterProcess
from tests.integration.simulated import SimulatedNode, eventually

ROOT = Path(__file__).parents[2]

# A rollout that goes nowhere for this long has failed. A bad one has had its reason long before; one of good pods, on
# a machine that is busy, must not have failed.
BAD_DEADLINE, GOOD_DEADLINE = 5, 600
AUTOMATIC = "annotations: {sampan.dev/auto-rollback: 'true'}"


def behave(spec: ContainerSpec) -> Behaviour:
    if "crash" in spec.image:
        return Behaviour(exits_after=0.05, exit_code=7, lines=("opening the database", "no such table: users"))
    return Behaviour(lines=("ready",))


def answer(asked: Asked) -> Answer:
    return Answer(code=1) if "broken" in asked.detail else Answer()


class MovingTag(LastingRuntime):
    """An engine whose registry has another image under a tag with every pull; a digest stays what it is."""

    pulls = itertools.count(1)

    async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
        name, _, digest = reference.partition("@")
        if not digest and reference not in (self.script.registry or ()):
            raise ImageError(f"manifest for {reference} not found: manifest unknown")
        digest = digest or f"sha256:{next(self.pulls):064x}"
        repository = name.partition(":")[0]
        self._images[reference] = ImageSeen(digest, (reference, f"{repository}@{digest}"), 10_000)


class Rollouts:
    """A master, two nodes, and the command line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        self.nodes: list[SimulatedNode] = []
        self.address = ""

    async def __aenter__(self) -> Rollouts:
        master = await self._stack.enter_async_context(MasterProcess(self._folder / "master"))
        self.address = master.address
        tasks = Tasks("nodes")
        self._stack.push_async_callback(tasks.close)
        with Client(self.address) as client:
            token = client.create_token(600, "").token
        for number in (1, 2):
            config = AgentConfig(
                name=f"node-{number}",
                master=self.address,
                data=self._folder / f"node-{number}",
                token=token,
                runtime="simulated",
                node_ip=f"192.0.2.{number}",
            )
            node = SimulatedNode(config, tasks)
            node.script.registry = frozenset(("web:1", "web:2", "crash:1"))
            node.script.behave, node.script.answer = behave, answer
            node.engine = MovingTag(node=node.config.name, script=node.script)
            node.start()
            self.nodes.append(node)
        await eventually(lambda: self._ready_nodes() == 2, 60)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def _ready_nodes(self) -> int:
        with Client(self.address) as client:
            nodes = client.list(kinds.NODE, "").items
        return sum(
            any(one.type == "Ready" and one.status == "True" for one in node.status.conditions) for node in nodes
        )

    async def sampan(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, standard output, standard error of one command line."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            "--master",
            self.address,
            *args,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def apply(self, manifest: str, *args: str) -> tuple[int, str, str]:
        return await self.sampan("apply", "-f", "-", "--wait", "--timeout=90s", *args, stdin=manifest)

    async def serving(self) -> dict[str, str]:
        """Container ids of the good template's pods that run, by pod."""
        found: dict[str, str] = {}
        for node in self.nodes:
            found |= await node.containers()
        with Client(self.address) as client:
            pods = client.list(kinds.POD, "default", labels="app=web").items
        good = {
            f"{pod.metadata.name}/app"
            for pod in pods
            if pod.spec.containers[0].image == "web:1"
            and any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions)
        }
        return {name: id for name, id in found.items() if name in good}


def web(image: str = "web:1", *, probe: str = "ok", cpu: str = "10m") -> str:
    """Three replicas, never fewer, whose rollout has failed after a few seconds if it can't succeed."""
    good = (probe, cpu) == ("ok", "10m") and image in ("web:1", "web:2")
    deadline = GOOD_DEADLINE if good else BAD_DEADLINE
    return textwrap.dedent(
        f"""
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: web
          annotations: {{}}
        spec:
          replicas: 3
          progressDeadlineSeconds: {deadline}
          strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
          selector: {{matchLabels: {{app: web}}}}
          template:
            metadata: {{labels: {{app: web}}}}
            spec:
              terminationGracePeriodSeconds: 1
              containers:
              - name: app
                image: {image}
                resources: {{requests: {{cpu: {cpu}}}}}
                readinessProbe: {{exec: {{command: [{probe}]}}, periodSeconds: 1, initialDelaySeconds: 1}}
        """
    )


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Rollouts]:
    async with Rollouts(tmp_path) as made:
        yield made


async def test_good_and_bad_updates(cluster: Rollouts) -> None:
    code, out, err = await cluster.apply(web())
    assert (code, out.splitlines()[-1]) == (0, 'deployment "web" successfully rolled out'), err
    before = await cluster.serving()
    assert len(before) == 3
    failures = {
        "a bad image": (web("nowhere:1"), "nowhere:1"),
        "a crash": (web("crash:1"), "exit code 7"),
        "failing readiness": (web(probe="broken"), "does not say it is ready"),
        "too big a request": (web(cpu="900"), "cpu"),
    }
    for what, (manifest, word) in failures.items():
        code, out, err = await cluster.apply(manifest)
        assert code == 3 and word in err.splitlines()[0], (what, out, err)
        assert ("no such table: users" in err) == (what == "a crash"), (what, err)
        code, out, err = await cluster.sampan("rollout", "status", "deployment/web", "--no-watch")
        assert code == 3 and word in err.splitlines()[0], err
        assert await cluster.serving() == before, what
        assert (await cluster.sampan("rollout", "undo", "deployment/web"))[1] == "deployment.apps/web rolled back\n"
        code, out, err = await cluster.sampan("rollout", "status", "deploy/web", "--timeout=90s")
        assert (code, out.splitlines()[-1]) == (0, 'deployment "web" successfully rolled out'), err
        assert await cluster.serving() == before, what
    for name in ("a crash", "too big a request"):
        manifest, word = failures[name]
        code, out, err = await cluster.apply(manifest.replace("annotations: {}", AUTOMATIC))
        assert code == 2 and word in err.splitlines()[0] and "was rolled back" in err, (name, out, err)
        assert await cluster.serving() == before, name


async def test_steering_a_rollout(cluster: Rollouts) -> None:
    assert (await cluster.apply(web()))[0] == 0
    assert (await cluster.sampan("rollout", "pause", "deployment/web"))[1] == "deployment.apps/web paused\n"
    code, out, err = await cluster.sampan("rollout", "pause", "deployment/web")
    assert code == 1 and "already paused" in err
    await cluster.sampan("apply", "-f", "-", stdin=web("web:2"))
    code, out, err = await cluster.sampan("rollout", "status", "deployment/web", "--timeout=1s")
    assert code == 3 and "timed out" in err
    code, out, err = await cluster.sampan("rollout", "undo", "deployment/web")
    assert code == 1 and "paused" in err
    assert (await cluster.sampan("rollout", "resume", "deployment/web"))[0] == 0
    code, out, err = await cluster.sampan("rollout", "status", "deployment/web", "--timeout=90s")
    assert code == 0, (out, err)
    code, out, err = await cluster.sampan("rollout", "history", "deployment/web")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["REVISION", "CHANGE-CAUSE"],
        ["1", "<none>"],
        ["2", "<none>"],
    ]
    code, out, err = await cluster.sampan("rollout", "history", "deployment/web", "--revision=1")
    assert "with revision #1" in out and "web:1" in out
    code, out, err = await cluster.sampan("rollout", "undo", "deployment/web", "--to-revision=9")
    assert code == 1 and "no revision 9" in err
    assert (await cluster.sampan("rollout", "restart", "deployment/web"))[1] == "deployment.apps/web restarted\n"
    assert (await cluster.sampan("rollout", "status", "deployment/web", "--timeout=90s"))[0] == 0
    assert (await cluster.sampan("scale", "deployment/web", "--replicas=5"))[1] == "deployment.apps/web scaled\n"
    assert (
        await cluster.sampan("wait", "deploy/web", "--for=jsonpath={.status.availableReplicas}=5", "--timeout=90s")
    )[0] == 0
    out = (await cluster.sampan("get", "all"))[1]
    assert "deployment.apps/web" in out and "5/5" in out and "replicaset.apps/web-" in out
    page = (await cluster.sampan("describe", "deployment", "web"))[1]
    assert "5 desired | 5 updated | 5 total | 5 available | 0 unavailable" in page
    assert "0 max unavailable, 1 max surge" in page and "ScalingReplicaSet" in page
    assert "Controlled By" in (await cluster.sampan("describe", "rs"))[1]


async def test_a_replication_controller_pod_by_pod(cluster: Rollouts) -> None:
    manifest = (
        web()
        .replace("apps/v1", "v1")
        .replace("kind: Deployment", "kind: ReplicationController")
        .replace("{matchLabels: {app: web}}", "{app: web}")
    )
    lines = [line for line in manifest.splitlines() if "progressDeadline" not in line and "strategy" not in line]
    code, out, err = await cluster.apply("\n".join(lines))
    assert code == 0, err
    before = await cluster.serving()
    code, out, err = await cluster.sampan("rolling-update", "web", "--image=web:2", "--timeout=90s")
    assert code == 0 and "pods are of an older template" in out, (out, err)
    assert len(before) == 3 and not await cluster.serving()
    with Client(cluster.address) as client:
        pods = client.list(kinds.POD, "default", labels="app=web").items
        rc = client.get(kinds.REPLICATION_CONTROLLER, "default", "web")
    assert [pod.spec.containers[0].image for pod in pods if not pod.metadata.HasField("deletionTimestamp")] == [
        "web:2"
    ] * 3
    assert rc.spec.replicas == 3


async def test_all_replicas_run_one_image_though_the_tag_moves(cluster: Rollouts) -> None:
    manifest = (
        web()
        .replace("replicas: 3", "replicas: 5")
        .replace("image: web:1", "image: web:1\n        imagePullPolicy: Always")
    )
    code, _, err = await cluster.apply(manifest)
    assert code == 0, err
    with Client(cluster.address) as client:
        pods = client.list(kinds.POD, "default", labels="app=web").items
    images = {pod.status.containerStatuses[0].imageID for pod in pods}
    assert len(pods) == 5 and len(images) == 1 and images.pop().startswith("docker-pullable://web@sha256:")
    assert {pod.spec.containers[0].image for pod in pods} == {"web:1"}
    assert {pod.spec.nodeName for pod in pods} == {"node-1", "node-2"}
