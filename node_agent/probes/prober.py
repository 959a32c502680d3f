"""The probes of one pod: a task for each, so that one that hangs never keeps another waiting."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from common.tasks import Tasks
from node_agent.probes.handlers import Handlers, Lingering, Outcome, Target, Verdict
from node_agent.probes.health import Doom, Health, containers_by_name, in_hook
from node_agent.probes.machine import Progress, after, begin, is_asked, pause
from node_agent.probes.rules import Kind, Rules, probes_of, rules_of
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import Container, Pod

log = structlog.get_logger(__name__)

Note = Callable[[str, str, str, str], None]
"""Type, reason, message and container name of an Event about the pod."""

# An Event's message is cut there in Kubernetes.
_MESSAGE_LENGTH = 1000


@dataclass
class _Watch:
    """One running container under probes."""

    container: Container
    rules: Mapping[Kind, Rules]
    progress: Progress
    started: asyncio.Event = field(default_factory=asyncio.Event)
    was_ready: bool = False
    tasks: dict[Kind, asyncio.Task[None]] = field(default_factory=dict)


class PodProber:
    """Call `sync` on every look at the pod; `changed` is called when a container's health has."""

    def __init__(
        self,
        uid: str,
        handlers: Handlers,
        *,
        kept: Mapping[str, Health],
        note: Note,
        changed: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._handlers, self._note, self._changed, self._now = handlers, note, changed, now
        # What an earlier agent said, and when this one began: its containers are adopted.
        self._kept, self._began = dict(kept), now()
        self._ip = ""
        # Read once of each version of the pod; empty when no container has a probe or a postStart hook.
        self._pod: Pod | None = None
        self._containers: Mapping[str, Container] = {}
        self._watches: dict[str, _Watch] = {}
        self._doomed: dict[str, Doom] = {}
        self._tasks = Tasks(f"probes/{uid[:8]}")

    def sync(self, pod: Pod, seen: Sequence[Seen], ip: str, starting: frozenset[str]) -> dict[str, Health]:
        """Starts and stops probes for what runs now; the health by container id, of those where it is not obvious.

        `starting` has the names of containers whose start is not over. No address: nothing is asked yet.
        """
        self._ip = ip
        if pod is not self._pod:
            self._pod, self._containers = pod, _asked_containers(pod)
        containers = self._containers
        if not containers:
            return {}
        running = {one.id: one for one in seen if one.state is State.RUNNING and one.name in containers}
        for id in [id for id in self._watches if id not in running]:
            self._stop(self._watches.pop(id), list(Kind))
        self._doomed = {id: doom for id, doom in self._doomed.items() if id in running}
        ending = pod.metadata.HasField("deletionTimestamp")
        for id, one in running.items():
            container = containers[one.name]
            if id not in self._watches and ip and not in_hook(container, one.name in starting):
                self._watch(one, container)
            if ending and id in self._watches:
                # As in Kubernetes: what ends anyway is not ended for its health.
                self._stop(self._watches[id], [Kind.STARTUP, Kind.LIVENESS])
        return {id: health for id in running if (health := self._health(id)) is not None}

    def doom(self, id: str, doom: Doom) -> None:
        """The container is to end, whatever its probes say."""
        self._doomed[id] = doom
        self._changed()

    async def close(self) -> None:
        await self._tasks.close()

    def _health(self, id: str) -> Health | None:
        watch, doom = self._watches.get(id), self._doomed.get(id)
        if watch is None:
            # A new agent has not got round to it yet.
            kept = self._kept.get(id)
            return Health(kept is not None and kept.started, kept is not None and kept.ready, doom) if doom else kept
        progress = watch.progress
        if doom is None and progress.failed is not None:
            name, kind = watch.container.name, progress.failed
            message = f"Container {name} failed {kind.value.lower()} probe, will be restarted"
            doom = Doom(message, watch.rules[kind].grace)
        return Health(progress.started, progress.ready, doom)

    def _watch(self, one: Seen, container: Container) -> None:
        rules = rules_of(container)
        if not rules:
            self._kept.pop(one.id, None)
            return
        kept = self._kept.pop(one.id, None)
        watch = self._watches[one.id] = _Watch(container, rules, begin(rules, kept))
        watch.was_ready = watch.progress.ready
        if watch.progress.started:
            watch.started.set()
        for kind, rule in rules.items():
            wait = max(0.0, min(rule.initial_delay, one.started_at + rule.initial_delay - self._now()))
            if one.started_at < self._began:
                # All containers of a node at once would be a stampede.
                wait = max(wait, random.random() * rule.period)
            name = f"{container.name}/{kind.value.lower()}"
            watch.tasks[kind] = self._tasks.start(name, self._ask_on(one.id, watch, kind, wait))

    def _stop(self, watch: _Watch, kinds: Sequence[Kind]) -> None:
        for kind in kinds:
            task = watch.tasks.pop(kind, None)
            if task is not None:
                task.cancel()

    async def _ask_on(self, id: str, watch: _Watch, kind: Kind, wait: float) -> None:
        """Asks one probe until its container is done for, or (startup) has started."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(wait)
        if kind is not Kind.STARTUP:
            await watch.started.wait()
        probe, rule, lingering = probes_of(watch.container)[kind], watch.rules[kind], Lingering()
        told_at = -math.inf
        while is_asked(watch.progress, kind):
            asked_at = loop.time()
            target = Target(id, watch.container, self._ip)
            try:
                outcome = await self._handlers.probe(target, probe.handler, rule.timeout, lingering)
            except Exception as error:
                # The probe's boundary: a fault of ours is no answer, and asks again.
                log.exception("probe.failed", container=watch.container.name, kind=kind.value)
                outcome = Outcome(Verdict.ERROR, f"{type(error).__name__}: {error}")
            # What is asked more often than once a period is not told more often.
            tell = asked_at > told_at + 0.9 * rule.period
            told_at = asked_at if tell and outcome.verdict is not Verdict.WELL else told_at
            self._take(watch, kind, outcome, tell)
            if is_asked(watch.progress, kind):
                again = asked_at + pause(rule, watch.progress, kind, watch.was_ready)
                await asyncio.sleep(max(0.0, again - loop.time()))

    def _take(self, watch: _Watch, kind: Kind, outcome: Outcome, tell: bool) -> None:
        if outcome.verdict is not Verdict.WELL and tell:
            reason = "ProbeWarning" if outcome.verdict is Verdict.WARNING else "Unhealthy"
            message = f"{kind.value} probe {outcome.verdict.value}: {outcome.message}"[:_MESSAGE_LENGTH]
            self._note("Warning", reason, message, watch.container.name)
        if outcome.verdict is Verdict.ERROR:
            return
        before = watch.progress
        watch.progress = now = after(watch.rules, before, kind, outcome.verdict is not Verdict.FAILED)
        watch.was_ready = watch.was_ready or now.ready
        if now.started:
            watch.started.set()
        if (before.started, before.ready, before.failed) != (now.started, now.ready, now.failed):
            log.info(
                "probe.health", container=watch.container.name, probe=kind.value, started=now.started, ready=now.ready,
                failed=now.failed is not None,
            )  # fmt: skip
            self._changed()


def _asked_containers(pod: Pod) -> Mapping[str, Container]:
    """The containers by name, if there is anything to ask or to wait for: mostly there is not."""
    containers = containers_by_name(pod)
    busy = any(probes_of(one) or one.lifecycle.HasField("postStart") for one in containers.values())
    return containers if busy else {}
