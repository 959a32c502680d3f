"""Pods and seen containers for the tests of this folder."""

from __future__ import annotations

from node_agent.pods.plan import spec_hash
from node_agent.runtime.seam import Identity, Seen, State
from protos.core_pb2 import Pod

UID = "11111111-aaaa"


def make_pod(*containers: str, policy: str = "Always", inits: tuple[str, ...] = ()) -> Pod:
    """A pod `web` with these containers, all of image app:1."""
    pod = Pod()
    pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = "web", "default", UID
    pod.spec.restartPolicy = policy
    for name in inits:
        pod.spec.initContainers.add(name=name, image="app:1")
    for name in containers:
        pod.spec.containers.add(name=name, image="app:1")
    return pod


def deleted(pod: Pod, grace: int = 30) -> Pod:
    copy = Pod()
    copy.CopyFrom(pod)
    copy.metadata.deletionTimestamp.seconds = 1
    copy.metadata.deletionGracePeriodSeconds = grace
    return copy


def seen(
    name: str = "",
    state: State = State.RUNNING,
    *,
    attempt: int = 0,
    crashes: int = 0,
    code: int = 0,
    start: float = 100.0,
    end: float = 0.0,
    sandbox: str = "box0",
    oom: bool = False,
    error: str = "",
) -> Seen:
    """A container (or, without a name, the sandbox boxN of attempt N); its id is name and attempt."""
    image = make_pod("x").spec.containers[0]
    identity = Identity(
        "c", "n", "default", "web", UID, name, attempt, crashes, spec_hash(image) if name else "", "10.0.0.2",
        sandbox if name else "",
    )  # fmt: skip
    return Seen(
        id=f"{name or 'box'}{attempt}",
        identity=identity,
        state=state,
        created_at=start - 1,
        started_at=start if state is not State.CREATED else 0.0,
        finished_at=(end or start + 1) if state is State.EXITED else 0.0,
        exit_code=code,
        oom_killed=oom,
        error=error,
        image="app:1",
        image_id="sha256:1",
    )


BOX = seen()
