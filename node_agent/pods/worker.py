"""One pod's worker: looks, plans, acts, reports, again and again. The decisions are in plan.py and status.py.

Every action runs as a task of its own, so that a hanging call or a long pull never keeps the pod from being
looked at, let alone another pod.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import structlog

from common.backoff import Backoff
from common.drain import drain_limit
from common.errors import SampanError, Unavailable
from common.podstate import is_terminal
from common.tasks import Tasks
from node_agent.pods.actions import Actions
from node_agent.pods.images import ImageTrouble
from node_agent.pods.model import FAILED_MOUNT, Assignments, ConfigError, Final, Memory, PlaceError, Trouble
from node_agent.pods.plan import Plan, make_plan
from node_agent.pods.status import pod_status
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
from node_agent.probes.health import Doom, Health, reported_health
from node_agent.probes.hooks import HookFailed
from node_agent.probes.messages import Messages
from node_agent.probes.prober import PodProber
from node_agent.runtime.seam import Runtime, Seen, State
from protos.agent_pb2 import PodReport
from protos.core_pb2 import Pod, PodStatus

log = structlog.get_logger(__name__)

# Something missing may turn up without an assignment changing (a host path): look again now and then.
_CONFIG_SECONDS = 10.0
_CREATE_FIRST_SECONDS, _CREATE_CAP_SECONDS = 1.0, 300.0
_ENGINE_SECONDS = 2.0
# An engine has tidied up after a container in less, as a rule.
_SETTLE_SECONDS = 0.25
# A pod that is deleted and that no word comes about (the master is away) is stopped so long after its drain limit.
_UNHEARD_SECONDS = 3.0


class Addresses(Protocol):
    """The worker's view of the node's address book."""

    def get(self, uid: str) -> str: ...
    def release(self, uid: str) -> None: ...


class PodWorker:
    """Keeps one pod as it is wanted until it is gone; `report` gets every new status.

    `new`: the engine has nothing of it, as far as is known; a mistake shows when something of it is made.
    """

    def __init__(
        self,
        pod: Pod,
        *,
        actions: Actions,
        runtime: Runtime,
        addresses: Addresses,
        assignments: Callable[[], Assignments],
        report: Callable[[PodReport], None],
        node_ip: str,
        now: Callable[[], float],
        new: bool = False,
    ) -> None:
        self.pod = pod
        self.last_report: PodReport | None = None
        self.seen: Sequence[Seen] = ()
        self._actions, self._runtime, self._addresses = actions, runtime, addresses
        self._assignments, self._report, self._node_ip, self._now = assignments, report, node_ip, now
        self._status = PodStatus()
        self._status.CopyFrom(pod.status)
        self._memory = _first_memory(pod, now())
        self._tasks = Tasks(f"pod/{pod.metadata.uid[:8]}")
        self._prober = PodProber(
            pod.metadata.uid,
            actions.handlers,
            kept=reported_health(pod.status),
            note=lambda type, reason, message, name: actions.note(self.pod, type, reason, message, name),
            changed=self.poke,
            now=now,
        )
        self._messages = Messages(runtime)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._completed = 0
        self._wake = asyncio.Event()
        self._new = new
        # It is deleted, and nothing waits for it any more.
        self._let_go = False
        # Something of the pod has been there in this worker's time.
        self._begun = False
        # An adopted pod may have missed a change.
        self._files_stale = True
        self._log = log.bind(pod=f"{pod.metadata.namespace}/{pod.metadata.name}", uid=pod.metadata.uid)

    @property
    def gone(self) -> bool:
        return self.last_report is not None and self.last_report.gone

    @property
    def memory(self) -> Memory:
        return self._memory

    def update(self, pod: Pod, *, refers_anew: bool = False, held: bool = False) -> None:
        """A new version of the pod; `refers_anew`: its ConfigMaps or Secrets have changed; `held`: not to end yet."""
        self.hold(pod, held)
        same = self.pod.spec == pod.spec and _wishes(self.pod) == _wishes(pod)
        self.pod = pod
        if same and not refers_anew:
            # Mostly our own status, come back.
            return
        self._files_stale = True
        # A missing ConfigMap may be there now: those who wait for one try at once.
        config = (ConfigError.reason, FAILED_MOUNT)
        trouble = {k: t for k, t in self._memory.trouble.items() if t.reason not in config and k != ""}
        self._remember(trouble=trouble)
        self.poke()

    def hold(self, pod: Pod, held: bool) -> None:
        """Whether a pod that is to go runs on for now; counts from the first word of it, and not again once let go."""
        if not pod.metadata.HasField("deletionTimestamp") or self._let_go:
            return
        if not held:
            self._let_go = True
            self._memory = dataclasses.replace(self._memory, held_until=None)
            self.poke()
        elif self._memory.held_until is None:
            until = self._now() + drain_limit(pod) + _UNHEARD_SECONDS
            self._memory = dataclasses.replace(self._memory, held_until=until)

    @property
    def ending(self) -> bool:
        """Whether the pod has ended, or is about to."""
        return self._memory.final is not None or self.pod.metadata.HasField("deletionTimestamp")

    def evict(self, final: Final) -> None:
        """Ends the pod for the node's sake; nothing happens to one that is ending anyway."""
        if not self.ending:
            self._remember(final=final)
            self.poke()

    def poke(self) -> None:
        """Something may have changed: look again soon."""
        self._wake.set()

    def hint(self, what: str) -> None:
        """The engine told of a container's start, end or removal."""
        # Starts and removals are nearly always our own, and their actions poke when they end.
        if what not in ("create", "start", "destroy") or not self._memory.in_flight:
            self.poke()

    async def run(self) -> None:
        """Ends when the pod is gone; errors are logged and tried again."""
        delays = Backoff(first=0.5, cap=10.0)
        try:
            while not self.gone:
                wait: float | None = None
                self._wake.clear()
                try:
                    wait = await self._pass()
                    delays.reset()
                except Unavailable as error:
                    wait = next(delays)
                    self._log.warning("pod.engine_unavailable", error=str(error), retry_in=wait)
                except Exception:
                    # The pod's boundary: a fault of ours must not end the worker, nor touch other pods.
                    wait = next(delays)
                    self._log.exception("pod.pass_failed", retry_in=wait)
                if not self.gone:
                    await self._sleep(wait)
        finally:
            await self._prober.close()
            await self._tasks.close()

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pass(self) -> float | None:
        """One look and what follows from it; seconds until the next at the latest (None: when poked)."""
        await self._look()
        if self._files_stale and self._begun and not self.pod.metadata.HasField("deletionTimestamp"):
            self._files_stale = False
            await self._refresh_files()
        starting = frozenset(key.removeprefix("start/") for key in self._running if key.startswith("start/"))
        self._remember(health=self._prober.sync(self.pod, self.seen, self._pod_ip(), starting))
        self._cancel_hooks()
        now = self._now()
        plan = make_plan(self.pod, self.seen, self._memory, now)
        if plan.actions:
            self._log.debug("pod.plan", plan=plan.summary())
        if plan.final is not None and self._memory.final is None and not self._memory.in_flight:
            self._remember(final=plan.final)
        if plan.ending and self._memory.ending_since is None:
            self._remember(ending_since=now)
        if plan.stop_starting:
            self._cancel_starts()
        if plan.final is not None and not self._uses_address():
            self._addresses.release(self.pod.metadata.uid)
        self._tell(plan, now)
        for action in plan.actions:
            self._begin(action, now)
        wait = None if plan.wake_at is None else max(0.0, plan.wake_at - self._now()) + 0.01
        if any(one.unsettled for one in self.seen):
            return _SETTLE_SECONDS if wait is None else min(wait, _SETTLE_SECONDS)
        return wait

    async def _look(self) -> None:
        """Reads the pod's containers; again if an action ended meanwhile, whose effect may not be in yet."""
        while True:
            completed = self._completed
            if self._new and not self.pod.metadata.HasField("deletionTimestamp"):
                self._new = False
                break
            seen = await self._runtime.containers(self.pod.metadata.uid)
            self.seen = await self._messages.put_in(self.pod, seen)
            if completed == self._completed:
                break
        self._begun = self._begun or bool(self.seen)
        attempts = dict(self._memory.attempts)
        for one in self.seen:
            # One that is just being started may be removed yet, as if it had never been: no restart follows it.
            if start_key(one.name) not in self._memory.in_flight:
                attempts[one.name] = max(attempts.get(one.name, 0), one.attempt)
        self._remember(attempts=attempts)
        self._forget_removed({one.id for one in self.seen})

    def _forget_removed(self, there: AbstractSet[str]) -> None:
        """What was done to containers that are removed by now: a pod may restart its own for years."""
        memory = self._memory
        if there >= memory.terminated.keys() | memory.killed.keys() | memory.signalled.keys():
            return
        self._remember(
            terminated={id: at for id, at in memory.terminated.items() if id in there},
            killed={id: at for id, at in memory.killed.items() if id in there},
            signalled={id: at for id, at in memory.signalled.items() if id in there},
        )

    async def _refresh_files(self) -> None:
        try:
            await self._actions.refresh_files(self.pod, self._assignments())
        except SampanError as error:
            # What is mounted stays as it was.
            self._log.info("pod.files_not_refreshed", error=str(error))

    def _cancel_starts(self) -> None:
        for key, task in self._running.items():
            if key == SANDBOX or key.startswith("start/"):
                task.cancel()

    def _cancel_hooks(self) -> None:
        """A container that has ended needs no signal any more, nor the preStop hook before it."""
        live = {f"terminate/{one.id}" for one in self.seen if one.state is State.RUNNING}
        for key, task in self._running.items():
            if key.startswith("terminate/") and key not in live:
                task.cancel()

    def _begin(self, action: Action, now: float) -> None:
        if isinstance(action, Terminate):
            self._remember(terminated={**self._memory.terminated, action.id: now})
        elif isinstance(action, Kill):
            self._remember(killed={**self._memory.killed, action.id: now})
        self._remember(in_flight=self._memory.in_flight | {action.key})
        task = self._tasks.start(action.key, self._do(action))
        self._running[action.key] = task
        # Also for a task that was cancelled before its first step.
        task.add_done_callback(lambda _: self._ended(action.key))

    def _ended(self, key: str) -> None:
        self._running.pop(key, None)
        self._completed += 1
        self._remember(in_flight=self._memory.in_flight - {key})
        self.poke()

    async def _do(self, action: Action) -> None:
        try:
            await self._act(action)
        except SampanError as error:
            await self._failed(action, error)
        except Exception as error:
            # The action's boundary: shown on the pod, tried again.
            self._log.exception("pod.action_failed", action=action.key)
            await self._failed(action, SampanError(f"{type(error).__name__}: {error}"))
        else:
            self._settled(action)

    async def _act(self, action: Action) -> None:
        known = self._assignments()
        match action:
            case CreateSandbox():
                await self._actions.create_sandbox(self.pod, known, action)
            case StartContainer():
                try:
                    resolved = functools.partial(self._resolved, action.name)
                    await self._actions.start_container(self.pod, known, action, resolved)
                except HookFailed as failed:
                    self._prober.doom(failed.id, Doom(str(failed)))
            case Terminate():
                await self._actions.terminate(self.pod, action)
            case Kill():
                await self._actions.kill(action)
            case Remove():
                await self._actions.remove(action)
            case CleanUp():
                await self._actions.clean_up(self.pod.metadata.uid)

    def _resolved(self, name: str, image: str) -> None:
        """Tells at once what a tag stands for: until then its ReplicaSet makes no other pod."""
        self._remember(images={**self._memory.images, name: image})
        self.poke()

    def _settled(self, action: Action) -> None:
        if isinstance(action, CleanUp):
            self._remember(cleaned=True)
        if isinstance(action, Terminate):
            self._remember(signalled={**self._memory.signalled, action.id: self._now()})
        name = _concerns(action)
        if name is not None and name in self._memory.trouble:
            self._remember(trouble={k: t for k, t in self._memory.trouble.items() if k != name})

    async def _failed(self, action: Action, error: SampanError) -> None:
        self._log.info("pod.trouble", action=action.key, reason=error.reason, error=str(error))
        name, now = _concerns(action), self._now()
        if name is None:
            # Signals and removals: in flight a little longer, so that the next pass does not try again at once.
            await asyncio.sleep(_ENGINE_SECONDS)
            return
        before = self._memory.trouble.get(name)
        count = before.count + 1 if before is not None else 1
        trouble = trouble_of(error, now, count)
        self._remember(trouble={**self._memory.trouble, name: trouble})
        self._actions.troubled(self.pod, name, trouble)

    def _remember(
        self,
        *,
        terminated: dict[str, float] | None = None,
        killed: dict[str, float] | None = None,
        trouble: dict[str, Trouble] | None = None,
        attempts: dict[str, int] | None = None,
        in_flight: frozenset[str] | None = None,
        final: Final | None = None,
        cleaned: bool | None = None,
        health: dict[str, Health] | None = None,
        signalled: dict[str, float] | None = None,
        ending_since: float | None = None,
        images: dict[str, str] | None = None,
    ) -> None:
        changes = {
            "terminated": terminated,
            "killed": killed,
            "trouble": trouble,
            "attempts": attempts,
            "in_flight": in_flight,
            "final": final,
            "cleaned": cleaned,
            "health": health,
            "signalled": signalled,
            "ending_since": ending_since,
            "images": images,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        self._memory = dataclasses.replace(self._memory, **given)  # type: ignore[arg-type]

    def _tell(self, plan: Plan, now: float) -> None:
        meta = self.pod.metadata
        status = pod_status(
            self.pod,
            self.seen,
            self._memory,
            plan,
            self._status,
            node_ip=self._node_ip,
            pod_ip=self._pod_ip(),
            now=now,
        )
        self._actions.digests.tell(status, self._status if self.last_report is not None else self.pod.status)
        report = PodReport(uid=meta.uid, namespace=meta.namespace, name=meta.name, status=status, gone=plan.gone)
        if report == self.last_report:
            return
        if status.phase != self._status.phase or plan.gone:
            self._log.info("pod.state", was=self._status.phase, now="gone" if plan.gone else status.phase)
        for name in sorted(_backing_off(status) - _backing_off(self._status)):
            self._actions.note(self.pod, "Warning", "BackOff", f"Back-off restarting failed container {name}", name)
        self._status, self.last_report = status, report
        self._report(report)

    def _uses_address(self) -> bool:
        """Whether something has the pod's address, or may come to have it."""
        starting = any(key == SANDBOX or key.startswith("start/") for key in self._running)
        return starting or any(not one.name or one.state is State.RUNNING for one in self.seen)

    def _pod_ip(self) -> str:
        """The address of what runs or ran last, or the last known one of a pod that has ended."""
        holders = [one for one in self.seen if not one.name or one.identity.alone]
        holder = max(holders, key=lambda one: (not one.name, one.created_at), default=None)
        seen = holder.identity.ip if holder is not None else ""
        if seen and self.pod.spec.hostNetwork:
            # Also when the node has got another one meanwhile.
            return self._node_ip
        return seen or (self._status.podIP if self._begun or is_terminal(self._status.phase) else "")


def trouble_of(error: SampanError, now: float, count: int) -> Trouble:
    """Kubernetes' waiting reason for what went wrong with a start, and when to try again; pure."""
    message = str(error)
    if isinstance(error, ImageTrouble):
        return Trouble(error.reason, message, now, error.until, count)
    if isinstance(error, ConfigError) or error.reason == FAILED_MOUNT:
        return Trouble(error.reason, message, now, now + _CONFIG_SECONDS, count)
    if isinstance(error, Unavailable):
        text = f"waiting for the container engine: {message}"
        return Trouble("ContainerCreating", text, now, now + _ENGINE_SECONDS, count)
    delay = min(_CREATE_CAP_SECONDS, _CREATE_FIRST_SECONDS * 2.0 ** min(count - 1, 10))
    reason = error.reason if isinstance(error, PlaceError) else "CreateContainerError"
    return Trouble(reason, message, now, now + delay, count)


def _wishes(pod: Pod) -> tuple[object, ...]:
    """What of the metadata changes what the node does."""
    meta = pod.metadata
    deleting = (meta.HasField("deletionTimestamp"), meta.deletionGracePeriodSeconds)
    return dict(meta.labels), dict(meta.annotations), deleting


def _concerns(action: Action) -> str | None:
    """The container (or "" for the sandbox) whose start an action is part of."""
    if isinstance(action, CreateSandbox):
        return ""
    return action.name if isinstance(action, StartContainer) else None


def _first_memory(pod: Pod, now: float) -> Memory:
    """What the master still knows of an earlier run of this agent."""
    status = pod.status
    started = status.startTime.seconds + status.startTime.nanos / 1e9 if status.HasField("startTime") else now
    attempts = {
        one.name: one.restartCount
        for one in (*status.containerStatuses, *status.initContainerStatuses)
        if one.containerID
    }
    ended = Final(status.phase, status.reason, status.message) if is_terminal(status.phase) else None
    return Memory(started_at=started, attempts=attempts, final=ended)


def _backing_off(status: PodStatus) -> set[str]:
    """Names of the containers that wait because they failed before."""
    found = (*status.initContainerStatuses, *status.containerStatuses)
    return {one.name for one in found if one.state.waiting.reason == "CrashLoopBackOff"}
