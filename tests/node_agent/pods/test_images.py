"""Pull policies, credentials, backoff, shared pulls."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from common.tasks import Tasks
from node_agent.care.pulled import PulledImages
from node_agent.pods.images import (
    ImagePuller,
    ImageTrouble,
    PullBackoff,
    pull_policy,
    pull_secrets,
    registry_of,
    same_registry,
)
from node_agent.runtime.seam import ImageSeen, RegistryAuth
from node_agent.runtime.simulated import Script, SimulatedRuntime
from node_agent.storage import MemoryStorage
from protos.core_pb2 import Container, Secret
from tests.node_agent.pods.build import make_pod


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("app:1", "IfNotPresent"),
        ("host:5000/app", "Always"),
        ("host:5000/app:1", "IfNotPresent"),
        ("app@sha256:00", "IfNotPresent"),
    ],
)
def test_default_policy(image: str, policy: str) -> None:
    assert pull_policy(Container(image=image)) == policy
    assert pull_policy(Container(image=image, imagePullPolicy="Never")) == "Never"


def test_registry_of() -> None:
    assert [registry_of(ref) for ref in ("nginx", "team/app", "host:5000/app", "ghcr.io/a/b", "localhost/x")] == [
        "docker.io", "docker.io", "host:5000", "ghcr.io", "localhost",
    ]  # fmt: skip
    assert same_registry("https://index.docker.io/v1/", "nginx")
    assert same_registry("host:5000", "host:5000/app:1")
    assert not same_registry("host:5000", "other:5000/app:1")


def test_pull_secrets() -> None:
    pod = make_pod("a")
    for name in ("mine", "gone", "broken"):
        pod.spec.imagePullSecrets.add(name=name)
    auth = base64.b64encode(b"joe:pass:word").decode()
    config = json.dumps({"auths": {"host:5000": {"auth": auth}}}).encode()
    secrets = {
        ("default", "mine"): Secret(data={".dockerconfigjson": config}),
        ("default", "broken"): Secret(data={".dockerconfigjson": b"{"}),
    }
    assert pull_secrets(pod, secrets) == [RegistryAuth("host:5000", "joe", "pass:word")]


def test_backoff_doubles_to_five_minutes_and_is_forgotten() -> None:
    backoff = PullBackoff()
    delays = [backoff.failed("x", 0.0, "no") for _ in range(7)]
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.waiting("x", 299.0) == (300.0, "no")
    assert backoff.waiting("x", 300.0) is None
    backoff.succeeded("x")
    assert backoff.failed("x", 0.0, "no") == 10


def test_images_nobody_asks_for_any_more_are_forgotten() -> None:
    backoff = PullBackoff()
    for hour in range(1000):
        assert backoff.failed(f"typo:{hour}", hour * 3600.0, "no") == hour * 3600.0 + 10
    assert list(backoff._failures) == ["typo:999"]


async def test_present_image_asks_no_registry() -> None:
    runtime = SimulatedRuntime(script=Script(registry=frozenset()), images=("app:1",))
    puller = ImagePuller(runtime, lambda: 0.0, PulledImages(MemoryStorage(), lambda: 0.0))
    image, pulled = await puller.ensure(Container(image="app:1"), (), lambda: None)
    assert not pulled and image.names == ("app:1",)
    with pytest.raises(ImageTrouble, match="imagePullPolicy IfNotPresent or Never"):
        await puller.ensure(Container(image="app:1", imagePullPolicy="Always"), (), lambda: None)


async def test_never_pulls() -> None:
    puller = ImagePuller(SimulatedRuntime(), lambda: 0.0, PulledImages(MemoryStorage(), lambda: 0.0))
    with pytest.raises(ImageTrouble, match="not present with pull policy of Never") as caught:
        await puller.ensure(Container(image="app:1", imagePullPolicy="Never"), (), lambda: None)
    assert caught.value.reason == "ErrImageNeverPull"


async def test_failure_is_explained_and_backed_off() -> None:
    now = 0.0
    runtime = SimulatedRuntime(script=Script(registry=frozenset()))
    puller = ImagePuller(runtime, lambda: now, PulledImages(MemoryStorage(), lambda: now))
    with pytest.raises(ImageTrouble, match='Failed to pull image "app:1": manifest for app:1 not found') as caught:
        await puller.ensure(Container(image="app:1"), (), lambda: None)
    assert (caught.value.reason, caught.value.until) == ("ErrImagePull", 10.0)
    runtime.script.registry = None
    with pytest.raises(ImageTrouble) as caught:
        await puller.ensure(Container(image="app:1"), (), lambda: None)
    assert caught.value.reason == "ImagePullBackOff"
    now = 10.0
    assert (await puller.ensure(Container(image="app:1"), (), lambda: None))[1]


async def test_one_pull_for_many_pods_outlives_the_first_asker() -> None:
    class Counting(SimulatedRuntime):
        pulls = 0

        async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
            type(self).pulls += 1
            started.set()
            await gate.wait()
            await super().pull(reference, auth)

    started, gate = asyncio.Event(), asyncio.Event()
    puller = ImagePuller(Counting(), lambda: 0.0, PulledImages(MemoryStorage(), lambda: 0.0))
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(puller.ensure(Container(image="app:1"), (), lambda: None)) for _ in range(2))
        await started.wait()
        first.cancel()
        gate.set()
    assert second.result()[1]
    assert Counting.pulls == 1


async def test_what_a_pull_brought_is_on_record() -> None:
    runtime = SimulatedRuntime(images=("there:1",))
    record = PulledImages(MemoryStorage(), lambda: 0.0)
    puller = ImagePuller(runtime, lambda: 0.0, record)
    await puller.ensure(Container(image="app:1"), (), lambda: None)
    # Asked for again, and the same as before: it is whose it was.
    await puller.ensure(Container(image="there:1", imagePullPolicy="Always"), (), lambda: None)
    assert [one.references for one in record.all()] == [("app:1",)]


async def test_the_engine_is_asked_once_for_all_that_ask_together() -> None:
    class Counted(SimulatedRuntime):
        asked = 0

        async def image(self, reference: str) -> ImageSeen | None:
            self.asked += 1
            await asyncio.sleep(0)
            return await super().image(reference)

    runtime = Counted("c", "node")
    puller = ImagePuller(runtime, lambda: 0.0, PulledImages(MemoryStorage(), lambda: 0.0))
    await runtime.pull("app:1", None)
    runtime.asked = 0
    container = Container(image="app:1")
    pods = Tasks("pods")
    asking = [pods.start(str(number), puller.ensure(container, (), lambda: None)) for number in range(5)]
    await asyncio.sleep(0)
    # Who leaves takes nothing from the others.
    asking.pop(0).cancel()
    assert {(image.names, pulled) for image, pulled in await asyncio.gather(*asking)} == {(("app:1",), False)}
    assert runtime.asked == 1
    await puller.ensure(container, (), lambda: None)
    assert runtime.asked == 2, "what was found is not remembered: somebody may remove it"
    await puller.close()
