"""What to do next for one pod: a pure function of its spec, the containers seen, what was tried, and the time.

The rules are Kubernetes': init containers in order, restartPolicy, crash backoff (10 s doubling to 5 min, back to
none after 10 min of running; the first restart is at once), active deadline, termination grace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from common.podstate import FAILED, SUCCEEDED
from node_agent.pods.model import FRESH_PULL_SECONDS, Final, Memory
from node_agent.pods.steps import (
    SANDBOX,
    Action,
    CleanUp,
    CreateSandbox,
    Kill,
    Remove,
    StartContainer,
    Terminate,
    start_key,
)
from node_agent.probes.health import health_of, is_sidecar
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import Container, Pod

CRASH_FIRST_SECONDS = 10.0
CRASH_CAP_SECONDS = 300.0
CRASH_RESET_SECONDS = 600.0
DEFAULT_GRACE_SECONDS = 30
# A killed container normally shows as ended within milliseconds.
_KILL_AGAIN_SECONDS = 5.0
# What is left of the grace at the least after a preStop hook, or for a sidecar; Kubernetes' figure.
_LEAST_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """Actions to start now, and when to look again at the latest (`wake_at`, unix seconds).

    `backing_off` has the seconds of crash backoff by container. `stop_starting`: cancel starts in flight.
    `ending`: the end of the whole pod has begun. `gone`: the pod has left the node.
    """

    actions: tuple[Action, ...] = ()
    final: Final | None = None
    backing_off: dict[str, float] = field(default_factory=dict)
    wake_at: float | None = None
    stop_starting: bool = False
    ending: bool = False
    gone: bool = False

    def summary(self) -> str:
        return ", ".join(f"{type(a).__name__}({getattr(a, 'name', '') or a.key})" for a in self.actions) or "nothing"


def make_plan(pod: Pod, seen: Sequence[Seen], memory: Memory, now: float) -> Plan:
    """The next actions for `pod`; none of them has a key that is in flight already."""
    return _Planner(pod, seen, memory, now).plan()


def newest(seen: Iterable[Seen], name: str) -> Seen | None:
    """The last attempt of a container."""
    return max((one for one in seen if one.name == name), key=_age, default=None)


def current_sandbox(seen: Iterable[Seen]) -> Seen | None:
    """The newest sandbox, if it runs."""
    last = newest(seen, "")
    return last if last is not None and last.state is State.RUNNING else None


def may_stand_alone(pod: Pod) -> bool:
    """Whether the pod may do without a sandbox: nothing of it has to outlive its one container's attempts.

    What would: the work of init containers, memory volumes, another container, the node's network joined.
    """
    spec = pod.spec
    in_memory = any(volume.volumeSource.emptyDir.medium == "Memory" for volume in spec.volumes)
    return len(spec.containers) == 1 and not spec.initContainers and not spec.hostNetwork and not in_memory


def spec_hash(container: Container) -> str:
    """Changes when a running container has to be replaced: only the image of a pod's container may change."""
    return hashlib.sha256(container.image.encode()).hexdigest()[:12]


def wants_run(policy: str, last: Seen | None) -> bool:
    """Whether a container with this last attempt shall run (again) under a restartPolicy."""
    if last is None or last.state is not State.EXITED:
        return True
    return policy in ("", "Always") or (policy == "OnFailure" and last.exit_code != 0)


def crashes_of(last: Seen) -> int:
    """How many attempts in a row, before this dead one, had died young."""
    ran = last.finished_at - last.started_at if last.started_at else 0.0
    return 0 if ran >= CRASH_RESET_SECONDS else last.identity.crashes


def crash_delay(crashes: int) -> float:
    """Seconds between a container's end and its next start, `crashes` as in `crashes_of`."""
    if crashes <= 0:
        return 0.0
    return min(CRASH_CAP_SECONDS, CRASH_FIRST_SECONDS * 2.0 ** min(crashes - 1, 10))


def termination_grace(pod: Pod) -> int:
    """Seconds between the stop signal and the kill."""
    if pod.metadata.HasField("deletionTimestamp") and pod.metadata.HasField("deletionGracePeriodSeconds"):
        return max(0, pod.metadata.deletionGracePeriodSeconds)
    if pod.spec.HasField("terminationGracePeriodSeconds"):
        return max(0, pod.spec.terminationGracePeriodSeconds)
    return DEFAULT_GRACE_SECONDS


def is_initialized(pod: Pod, seen: Sequence[Seen], memory: Memory) -> bool:
    """Whether all init containers have done their work in the current sandbox (or had, for a finished pod).

    A sidecar's part of it is to have started.
    """
    sandbox = current_sandbox(seen)
    names = {container.name for container in pod.spec.containers}
    if any(one.name in names and (sandbox is None or one.identity.sandbox == sandbox.id) for one in seen):
        return True
    return all(
        has_started(c, newest(seen, c.name), memory) if is_sidecar(c) else _init_done(newest(seen, c.name), sandbox)
        for c in pod.spec.initContainers
    )


def has_started(container: Container, last: Seen | None, memory: Memory) -> bool:
    """Whether a container runs, with its postStart hook over and its startup probe passed."""
    starting = start_key(container.name) in memory.in_flight
    return health_of(container, last, memory.health, starting=starting).started


def _init_done(last: Seen | None, sandbox: Seen | None) -> bool:
    if last is None or last.state is not State.EXITED or last.exit_code != 0:
        return False
    return sandbox is None or last.identity.sandbox == sandbox.id


def _age(one: Seen) -> tuple[int, float]:
    return (one.attempt, one.created_at)


class _Planner:
    """One planning pass; collects actions and the earliest time to look again."""

    def __init__(self, pod: Pod, seen: Sequence[Seen], memory: Memory, now: float) -> None:
        self.pod, self.seen, self.memory, self.now = pod, seen, memory, now
        self.policy = pod.spec.restartPolicy or "Always"
        self.containers = [one for one in seen if one.name]
        self.sandboxes = [one for one in seen if not one.name]
        self.live = [one for one in self.containers if one.state is State.RUNNING]
        self.starting = any(key == SANDBOX or key.startswith("start/") for key in memory.in_flight)
        self.actions: list[Action] = []
        self.backing_off: dict[str, float] = {}
        self.wake_at: float | None = None
        self.ending = False
        self.sidecars = [c.name for c in pod.spec.initContainers if is_sidecar(c)]
        self.specs = {c.name: c for c in (*pod.spec.initContainers, *pod.spec.containers)}

    def plan(self) -> Plan:
        if self.pod.metadata.HasField("deletionTimestamp"):
            return self._delete()
        final = self.memory.final or self._overdue() or self._finished()
        if final is not None:
            self._wind_down(final)
            return self._result(final=final, stop_starting=True)
        self._keep_running()
        return self._result()

    def _result(self, *, final: Final | None = None, stop_starting: bool = False, gone: bool = False) -> Plan:
        once = {action.key: action for action in self.actions if action.key not in self.memory.in_flight}
        return Plan(tuple(once.values()), final, self.backing_off, self.wake_at, stop_starting, self.ending, gone)

    def _wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    # Ending

    def _delete(self) -> Plan:
        final = self.memory.final or self._finished()
        if self.memory.cleaned and not self.seen and not self.memory.in_flight:
            return self._result(final=final, gone=True)
        held_until = self.memory.held_until
        if self.live and held_until is not None and self.now < held_until and self._grace() > 0:
            # It serves on while proxies may still send it traffic, or its connections live; nothing is begun anew.
            self._wake(held_until)
            return self._result(final=final, stop_starting=True)
        if self._end_pod("the pod is deleted") and not self.starting:
            self.actions += [Remove(one.id) for one in self.seen]
            if not self.seen and not self.memory.in_flight:
                self.actions.append(CleanUp())
        return self._result(final=final, stop_starting=True)

    def _wind_down(self, final: Final) -> None:
        """The pod has ended: nothing runs on, its last containers stay for their logs."""
        if self._end_pod(final.message or "the pod has ended") and not self.starting:
            if final.discard:
                self._discard()
                return
            self.actions += [Remove(one.id) for one in self.sandboxes]
            self.actions += [Remove(one.id) for one in self.containers if one.state is State.CREATED]
            self._remove_old()

    def _discard(self) -> None:
        """Nothing runs any more: its room on disk is needed."""
        self.actions += [Remove(one.id) for one in self.seen]
        if not self.seen and not self.memory.in_flight and not self.memory.cleaned:
            self.actions.append(CleanUp())

    def _end_pod(self, why: str) -> bool:
        """Ends main containers, then sidecars from the last to the first; True when nothing is left to end."""
        self.ending = True
        turn = [one for one in self.live if one.name not in self.sidecars]
        if self._grace() == 0:
            turn = self.live
        elif not turn:
            turn = sorted(self.live, key=lambda one: self.sidecars.index(one.name))[-1:]
        return self._end(turn, why)

    def _end(self, live: Iterable[Seen], why: str, *, grace: int | None = None, whole: bool = False) -> bool:
        """Signals, and when the grace is over kills; True when nothing is left to end.

        `grace`: another one than the pod's; `whole`: `why` is all there is to say.
        """
        allowed, ended = self._grace() if grace is None else grace, True
        for one in live:
            ended = False
            asked, killed = self.memory.terminated.get(one.id), self.memory.killed.get(one.id)
            if asked is None and allowed > 0:
                seconds = self._signalled_end(one, self.now, allowed) - self.now
                self.actions.append(Terminate(one.id, one.name, why, seconds, whole))
            elif asked is not None and self.now < (end := self._end_of(one, asked, allowed)):
                self._wake(end)
            elif killed is None or self.now >= killed + _KILL_AGAIN_SECONDS:
                self.actions.append(Kill(one.id, one.name))
            else:
                self._wake(killed + _KILL_AGAIN_SECONDS)
        return ended

    def _grace(self) -> int:
        """The pod's, or less for one that is evicted."""
        final, own = self.memory.final, termination_grace(self.pod)
        return own if final is None or final.grace is None else min(own, final.grace)

    def _signalled_end(self, one: Seen, asked: float, allowed: float) -> float:
        """When the grace is over of a container that was asked to end; a sidecar has what the others left."""
        since = self.memory.ending_since
        if since is None or one.name not in self.sidecars:
            return asked + allowed
        return max(since + allowed, asked + _LEAST_GRACE_SECONDS)

    def _end_of(self, one: Seen, asked: float, allowed: float) -> float:
        """When to kill it: its preStop hook counts against the grace, but some is left after it."""
        end, container = self._signalled_end(one, asked, allowed), self.specs.get(one.name)
        if container is None or not container.lifecycle.HasField("preStop"):
            return end
        signalled = self.memory.signalled.get(one.id)
        return end + _LEAST_GRACE_SECONDS if signalled is None else max(end, signalled + _LEAST_GRACE_SECONDS)

    def _overdue(self) -> Final | None:
        if not self.pod.spec.HasField("activeDeadlineSeconds"):
            return None
        end = self.memory.started_at + self.pod.spec.activeDeadlineSeconds
        if self.now < end:
            self._wake(end)
            return None
        message = "Pod was active on the node longer than the specified deadline"
        return Final(FAILED, "DeadlineExceeded", message)

    def _finished(self) -> Final | None:
        """Set when every container has ended for good, or an init container has failed for good."""
        if self.policy == "Never" and not is_initialized(self.pod, self.seen, self.memory):
            for container in self.pod.spec.initContainers:
                if is_sidecar(container):
                    continue
                last = newest(self.seen, container.name)
                if last is not None and last.state is State.EXITED and last.exit_code != 0:
                    return Final(FAILED)
        lasts = [newest(self.seen, container.name) for container in self.pod.spec.containers]
        if not lasts or any(last is None or wants_run(self.policy, last) for last in lasts):
            return None
        failed = any(last is not None and last.exit_code != 0 for last in lasts)
        return Final(FAILED if failed else SUCCEEDED)

    # Running

    def _keep_running(self) -> None:
        sandbox = current_sandbox(self.seen)
        self._remove_old()
        if SANDBOX in self.memory.in_flight:
            for last in self.containers:
                # A sandbox is made for one that stood alone, because it has to wait.
                if last.identity.alone and last is newest(self.containers, last.name):
                    self._backs_off(last)
            return
        # Containers of a lost sandbox have lost their network: they end before the pod starts anew.
        strays = [one for one in self.live if one.identity.sandbox != (sandbox.id if sandbox is not None else "")]
        if not self._end(strays, "the pod's sandbox has ended"):
            return
        self.actions += [Remove(one.id) for one in self.sandboxes if sandbox is None or one.id != sandbox.id]
        if sandbox is None:
            if not self.sandboxes and not self._stands_alone() and self._may_try(""):
                self.actions.append(CreateSandbox(self.memory.attempts.get("", -1) + 1))
            return
        initialized = is_initialized(self.pod, self.seen, self.memory)
        for container in self.pod.spec.initContainers:
            latest = newest(self.seen, container.name)
            if is_sidecar(container):
                self._keep_container(container, sandbox)
                if not initialized and not has_started(container, latest, self.memory):
                    return
            elif not initialized and not _init_done(latest, sandbox):
                self._keep_init(container, latest, sandbox)
                return
        for container in self.pod.spec.containers:
            self._keep_container(container, sandbox)

    def _stands_alone(self) -> bool:
        """Keeps the container of a pod without a sandbox; False when it needs a sandbox now.

        That is so when the container is down and cannot start at once (crash backoff, an image to pull): somebody has
        to hold the pod's address, so that who connects meanwhile is refused instead of left waiting.
        """
        if self.live:
            self._keep_container(self.pod.spec.containers[0], self.live[0])
            return True
        if not may_stand_alone(self.pod):
            return False
        container = self.pod.spec.containers[0]
        if start_key(container.name) in self.memory.in_flight:
            return True
        last = newest(self.containers, container.name)
        if last is None or last.state is State.CREATED or not wants_run(self.policy, last):
            self._keep_container(container, None)
            return True
        waits = self._backs_off(last) or container.name in self.memory.trouble
        if waits or not last.identity.alone or last.identity.spec_hash != spec_hash(container):
            return False
        self._keep_container(container, None)
        return True

    def _backs_off(self, last: Seen) -> bool:
        """Whether a container that has ended has to wait before it starts again."""
        delay = crash_delay(crashes_of(last))
        ready_at = last.finished_at + delay
        if not delay or last.state is not State.EXITED or self.now >= ready_at or not self._restarts(last):
            return False
        self.backing_off[last.name] = delay
        self._wake(ready_at)
        return True

    def _restarts(self, last: Seen) -> bool:
        return last.name in self.sidecars or wants_run(self.policy, last)

    def _keep_init(self, container: Container, last: Seen | None, sandbox: Seen) -> None:
        if last is not None and last.state is State.RUNNING:
            return
        if last is not None and last.state is State.EXITED and last.exit_code == 0:
            # It did its work in a sandbox that is gone.
            self._start(container, last, sandbox, crashes=0)
            return
        self._restart(container, last, sandbox)

    def _keep_container(self, container: Container, sandbox: Seen | None) -> None:
        last = newest(self.containers, container.name)
        if last is not None and last.state is State.RUNNING:
            health = self.memory.health.get(last.id)
            if health is not None and health.doom is not None:
                self._end([last], health.doom.message, grace=health.doom.grace, whole=True)
            elif last.identity.spec_hash != spec_hash(container):
                self._end([last], f"container {container.name} has a new image")
            return
        if last is None or self._restarts(last):
            self._restart(container, last, sandbox)

    def _restart(self, container: Container, last: Seen | None, sandbox: Seen | None) -> None:
        if last is not None and last.state is State.CREATED:
            # Left behind by an agent that died between making and starting it.
            if start_key(container.name) not in self.memory.in_flight:
                self.actions.append(Remove(last.id))
            return
        if last is None:
            self._start(container, last, sandbox, crashes=0)
            return
        if sandbox is not None and last.identity.sandbox not in ("", sandbox.id):
            # It ended with its sandbox (the engine was restarted, say), which is no fault of its own.
            self._start(container, last, sandbox, crashes=last.identity.crashes)
            return
        if not self._backs_off(last):
            self._start(container, last, sandbox, crashes=crashes_of(last) + 1)

    def _start(self, container: Container, last: Seen | None, sandbox: Seen | None, *, crashes: int) -> None:
        if not self._may_try(container.name):
            return
        made = max(self.memory.attempts.get(container.name, -1), last.attempt if last is not None else -1)
        where = (sandbox.id, sandbox.identity.ip) if sandbox is not None else ("", "")
        self.actions.append(StartContainer(container.name, made + 1, crashes, *where))

    def _may_try(self, name: str) -> bool:
        trouble = self.memory.trouble.get(name)
        if trouble is None or self.now >= trouble.until:
            return True
        self._wake(trouble.until)
        if self.now < trouble.since + FRESH_PULL_SECONDS:
            # The status words change then.
            self._wake(trouble.since + FRESH_PULL_SECONDS)
        return False

    def _remove_old(self) -> None:
        """Of each container the newest stays, and while that one lives also the last dead one (previous logs)."""
        for name in {one.name for one in self.containers}:
            history = sorted((one for one in self.containers if one.name == name), key=_age, reverse=True)
            keep = 1 if history[0].state is State.EXITED else 2
            dead = [one for one in history[keep:] if one.state is not State.RUNNING]
            self.actions += [Remove(one.id) for one in dead]
