"""A pod's status in Kubernetes' words, from what was seen and planned; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from common.podstate import FAILED, PENDING, RUNNING, SUCCEEDED, may_follow
from node_agent.pods.model import EVICTED, FAILED_MOUNT, FAILED_SANDBOX, FRESH_PULL_SECONDS, Memory, Trouble
from node_agent.pods.plan import Plan, current_sandbox, is_initialized, newest
from node_agent.pods.steps import start_key
from node_agent.probes.health import health_of, in_hook, is_sidecar
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
)

_CANNOT_START = "StartError"
DISRUPTION_TARGET = "DisruptionTarget"


def pod_status(
    pod: Pod,
    seen: Sequence[Seen],
    memory: Memory,
    plan: Plan,
    before: PodStatus,
    *,
    node_ip: str,
    pod_ip: str,
    now: float,
) -> PodStatus:
    """The new status; `before` is the last one (for transition times, and because a phase never goes back)."""
    initialized = is_initialized(pod, seen, memory)
    describe = _Describer(pod, seen, memory, plan, initialized, before, now)
    inits = [describe.container(c, init=True) for c in pod.spec.initContainers]
    mains = [describe.container(c, init=False) for c in pod.spec.containers]
    final = plan.final
    live = any(one.state is State.RUNNING and one.name for one in seen)
    phase = final.phase if final is not None and not live else phase_of(pod, inits, mains, initialized)
    if live and phase in (SUCCEEDED, FAILED):
        # Its sidecars are still to end.
        phase = RUNNING if initialized else PENDING
    if not may_follow(before.phase, phase):
        phase = before.phase
    status = PodStatus(
        phase=phase,
        hostIP=node_ip,
        hostIPs=[HostIP(ip=node_ip)],
        podIP=pod_ip,
        podIPs=[PodIP(ip=pod_ip)] if pod_ip else [],
        startTime=timestamp(memory.started_at),
        containerStatuses=mains,
        initContainerStatuses=inits,
        qosClass=qos_class(pod),
        observedGeneration=pod.metadata.generation,
    )
    if final is not None and phase == final.phase:
        status.reason, status.message = final.reason, final.message
    status.conditions.extend(_conditions(pod, status, initialized, before, now))
    return status


def phase_of(pod: Pod, inits: Sequence[ContainerStatus], mains: Sequence[ContainerStatus], initialized: bool) -> str:
    """Kubernetes' phase of a pod that has not ended."""
    policy = pod.spec.restartPolicy or "Always"
    if not initialized and inits:
        sidecars = {container.name for container in pod.spec.initContainers if is_sidecar(container)}
        if policy == "Never" and any(one.state.terminated.exitCode for one in inits if one.name not in sidecars):
            return FAILED
        return PENDING
    waiting = running = stopped = succeeded = 0
    for one in mains:
        ended = one.state.terminated if one.state.HasField("terminated") else None
        if one.state.HasField("running"):
            running += 1
        elif ended is None and one.lastState.HasField("terminated"):
            stopped += 1
        elif ended is None:
            waiting += 1
        else:
            stopped += 1
            succeeded += ended.exitCode == 0
    if waiting:
        return PENDING
    if running or not stopped:
        return RUNNING if running else PENDING
    if policy == "Always":
        return RUNNING
    if succeeded == stopped:
        return SUCCEEDED
    return FAILED if policy == "Never" else RUNNING


def qos_class(pod: Pod) -> str:
    """Guaranteed: every container has limits and equal requests for cpu and memory; BestEffort: none has any."""
    if pod.status.qosClass:
        return pod.status.qosClass
    guaranteed, anything = True, False
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        limits = {k: v.value for k, v in container.resources.limits.items() if k in ("cpu", "memory")}
        requests = {k: v.value for k, v in container.resources.requests.items() if k in ("cpu", "memory")}
        anything = anything or bool(limits or requests)
        if len(limits) < 2 or any(requests.get(key, limit) != limit for key, limit in limits.items()):
            guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def timestamp(seconds: float) -> Timestamp:
    """A time in whole seconds, as Kubernetes keeps them."""
    return Timestamp(seconds=int(seconds))


class _Describer:
    def __init__(
        self,
        pod: Pod,
        seen: Sequence[Seen],
        memory: Memory,
        plan: Plan,
        initialized: bool,
        before: PodStatus,
        now: float,
    ) -> None:
        self._pod, self._seen, self._memory, self._plan = pod, seen, memory, plan
        self._initialized, self._now = initialized, now
        self._sandbox = current_sandbox(seen)
        self._before = {one.name: one for one in (*before.containerStatuses, *before.initContainerStatuses)}

    def container(self, container: Container, *, init: bool) -> ContainerStatus:
        name = container.name
        last = newest(self._seen, name)
        before = self._before.get(name, ContainerStatus())
        ending = self._plan.final is not None or self._pod.metadata.HasField("deletionTimestamp")
        if last is None and before.state.HasField("terminated") and ending:
            # The container is gone (pruned, or the pod is being removed): what it came to is still true.
            return before
        state, shown = self._state(container, last, init)
        status = ContainerStatus(
            name=name,
            state=state,
            image=container.image,
            restartCount=max(0, self._memory.attempts.get(name, 0), last.attempt if last else 0),
        )
        older = [one for one in self._seen if one.name == name and one.state is State.EXITED and one is not shown]
        if older:
            status.lastState.terminated.CopyFrom(_terminated(max(older, key=lambda one: one.attempt)))
        elif last is None and before.HasField("lastState"):
            status.lastState.CopyFrom(before.lastState)
        if last is not None:
            status.image, status.imageID = last.image, f"docker://{last.image_id}"
            status.containerID = f"docker://{last.id}"
        elif name in self._memory.images:
            status.imageID = f"docker://{self._memory.images[name]}"
        starting = start_key(name) in self._memory.in_flight
        health = health_of(container, last, self._memory.health, starting=starting)
        status.started, status.ready = health.started, health.ready
        if init and not is_sidecar(container):
            status.ready = state.terminated.exitCode == 0 and state.HasField("terminated")
        return status

    def _state(self, container: Container, last: Seen | None, init: bool) -> tuple[ContainerState, Seen | None]:
        """The state, and which attempt it shows (None: none, it waits)."""
        hooked = in_hook(container, start_key(container.name) in self._memory.in_flight)
        if last is not None and last.state is State.RUNNING and not hooked:
            running = ContainerStateRunning(startedAt=timestamp(last.started_at))
            return ContainerState(running=running), last
        waiting = self._waiting(container, last, init)
        if waiting is not None:
            return ContainerState(waiting=waiting), None
        if last is not None and last.state is State.EXITED:
            return ContainerState(terminated=_terminated(last)), last
        return ContainerState(waiting=self._not_yet(init)), None

    def _waiting(self, container: Container, last: Seen | None, init: bool) -> ContainerStateWaiting | None:
        """Why it waits, when there is something to say; an ended pod waits for nothing."""
        if self._plan.final is not None:
            return None
        trouble = self._memory.trouble.get(container.name)
        if trouble is not None:
            return _waiting_for(trouble, container.image, self._now)
        delay = self._plan.backing_off.get(container.name)
        if delay is not None:
            meta = self._pod.metadata
            message = (
                f"back-off {int(delay)}s restarting failed container={container.name} "
                f"pod={meta.name}_{meta.namespace}({meta.uid})"
            )
            return ContainerStateWaiting(reason="CrashLoopBackOff", message=message)
        if last is not None and _never_ran(last):
            return ContainerStateWaiting(reason="RunContainerError", message=last.error)
        return None

    def _not_yet(self, init: bool) -> ContainerStateWaiting:
        if self._plan.final is not None:
            return ContainerStateWaiting(reason="ContainerCreating")
        trouble = self._memory.trouble.get("")
        message = trouble.message if trouble is not None else ""
        behind_init = not self._initialized and len(self._pod.spec.initContainers) > 0
        reason = "PodInitializing" if behind_init else "ContainerCreating"
        return ContainerStateWaiting(reason=reason, message=message)


def _waiting_for(trouble: Trouble, image: str, now: float) -> ContainerStateWaiting:
    if trouble.reason in (FAILED_MOUNT, FAILED_SANDBOX):
        return ContainerStateWaiting(reason="ContainerCreating", message=trouble.message)
    if trouble.reason == "ErrImagePull" and now - trouble.since >= FRESH_PULL_SECONDS:
        message = f'Back-off pulling image "{image}": {trouble.message}'
        return ContainerStateWaiting(reason="ImagePullBackOff", message=message)
    return ContainerStateWaiting(reason=trouble.reason, message=trouble.message)


def _never_ran(one: Seen) -> bool:
    return one.state is State.EXITED and bool(one.error) and not one.started_at


def _terminated(one: Seen) -> ContainerStateTerminated:
    if one.oom_killed:
        reason = "OOMKilled"
    elif _never_ran(one):
        reason = _CANNOT_START
    else:
        reason = "Completed" if one.exit_code == 0 else "Error"
    ended = ContainerStateTerminated(
        exitCode=one.exit_code,
        reason=reason,
        message=one.error or one.message,
        finishedAt=timestamp(one.finished_at),
        containerID=f"docker://{one.id}",
    )
    if one.started_at:
        ended.startedAt.CopyFrom(timestamp(one.started_at))
    return ended


def _conditions(
    pod: Pod, status: PodStatus, initialized: bool, before: PodStatus, now: float
) -> Iterable[PodCondition]:
    """Initialized, Ready, ContainersReady, and what others (the scheduler) have set."""
    ended = status.phase in (SUCCEEDED, FAILED)
    sidecars = {container.name for container in pod.spec.initContainers if is_sidecar(container)}
    beside = [one for one in status.initContainerStatuses if one.name in sidecars]
    unready = [one.name for one in (*beside, *status.containerStatuses) if not one.ready]
    incomplete = [
        one.name for one in status.initContainerStatuses if not (one.started if one.name in sidecars else one.ready)
    ]
    done = initialized or status.phase == SUCCEEDED
    yield _condition(
        "Initialized", done, "ContainersNotInitialized", f"containers with incomplete status: {_list(incomplete)}",
        before, now,
    )  # fmt: skip
    reason, message = "ContainersNotReady", f"containers with unready status: {_list(unready)}"
    if status.phase == SUCCEEDED:
        reason, message = "PodCompleted", ""
    elif status.phase == FAILED:
        reason, message = "PodFailed", ""
    ready = not unready and not ended
    yield _condition("Ready", ready, reason, message, before, now)
    yield _condition("ContainersReady", ready, reason, message, before, now)
    told = {"Initialized", "Ready", "ContainersReady"}
    if status.reason == EVICTED:
        # As the kubelet says it of a pod that it ended for the node's sake.
        told.add(DISRUPTION_TARGET)
        disrupted = _condition(DISRUPTION_TARGET, True, "", "", before, now)
        disrupted.reason, disrupted.message = "TerminationByKubelet", status.message
        yield disrupted
    for other in pod.status.conditions:
        if other.type not in told:
            kept = PodCondition()
            kept.CopyFrom(other)
            yield kept


def _condition(kind: str, true: bool, reason: str, message: str, before: PodStatus, now: float) -> PodCondition:
    """`reason` and `message` speak for the case that it is not true."""
    word = "True" if true else "False"
    condition = PodCondition(type=kind, status=word)
    if not true:
        condition.reason, condition.message = reason, message
    was = next((one for one in before.conditions if one.type == kind), None)
    if was is not None and was.status == word and was.HasField("lastTransitionTime"):
        condition.lastTransitionTime.CopyFrom(was.lastTransitionTime)
    else:
        condition.lastTransitionTime.CopyFrom(timestamp(now))
    return condition


def _list(names: Iterable[str]) -> str:
    return "[" + " ".join(names) + "]"
