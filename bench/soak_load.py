"""The users of the soak: a round of rollouts, scalings, config changes, jobs, evictions and looks, each to its end.

The next step of anybody begins when the last one is done, however slow the machine: what piles up then is a leak, and
not work that comes faster than it can be done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio

from bench.soak_calls import SPACE, Calls
from bench.soak_inside import IMAGES
from bench.soak_quiet import deployed, wanted_pods
from bench.soak_things import (
    FLAPPING,
    STEADY,
    budget,
    daemons,
    deployment,
    job,
    namespace,
    probe,
    replication,
    service,
    stranger,
)

# The longest that one step may take, seconds: beyond, the machine is too slow, or something never ends.
PATIENCE = 480.0
LOOK_AGAIN = 0.4
SIZES = (6, 10, 14, 10)
# So many pods that are like no other: more than master/scheduler/requests.py remembers.
STRANGERS = 4500
# Of these, so many at a time by so many users; all of them would be looked at with every change of a node.
LOT, CREW = 25, 12
# More than what master/api/paging.py keeps of lists that nobody reads to their end.
LISTS = 70
# Of each in a round.
JOBS, LOOKS = 4, 3


class TooSlow(Exception):
    """A step did not end; says which."""


class Users:
    """One connection to the master; `done` counts the steps by name, `refused` what was said no to."""

    def __init__(self, calls: Calls, scale: int) -> None:
        self._calls, self._scale = calls, scale
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    @property
    def operations(self) -> int:
        return sum(self.done.values())

    async def fill(self) -> None:
        """Fills what the master remembers up to a bound of its own: what fills slowly, round by round, would count as
        growth. Raises TooSlow."""
        space = "passing-0"
        await self._calls.apply(namespace(space))
        numbers = iter(range(0, STRANGERS, LOT))

        async def user() -> None:
            for first in numbers:
                names = [f"stranger-{number}" for number in range(first, first + LOT)]
                for number in range(first, first + LOT):
                    await self._calls.apply(stranger(number, space))
                await self._until("refusal", names[-1], lambda: self._told(space, names[-1]))  # noqa: B023 - awaited here
                for name in names:
                    await self._calls.delete("Pod", space, name)

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(CREW):
                    group.create_task(user(), name=f"strangers-{number}")
        except* TooSlow as errors:
            raise errors.exceptions[0] from None
        await self._delete("namespace", "Namespace", "", space)

    async def _told(self, space: str, pod: str) -> bool:
        conditions = (await self._calls.get("Pod", pod, space)).status.conditions
        return any(one.reason == "Unschedulable" for one in conditions)

    async def set_up(self) -> None:
        apply = self._calls.apply
        await apply(namespace(SPACE))
        await self._config(0)
        for number in range(self._scale):
            await apply(deployment(f"web-{number}", SIZES[-1], IMAGES[0], probes=FLAPPING))
            await apply(service(f"web-{number}"))
            await apply(budget(f"web-{number}"))
            roll = {"sampan.dev/restart-on-config-change": "true"}
            await apply(deployment(f"config-{number}", 4, IMAGES[0], probes=STEADY, annotations=roll))
            back = {"sampan.dev/auto-rollback": "true"}
            await apply(deployment(f"bad-{number}", 3, IMAGES[0], probes=STEADY, annotations=back))
            await apply(replication(f"crash-{number}", 2, "crash:1"))
            await apply(replication(f"old-{number}", 3, IMAGES[0]))
        await apply(daemons(0))

    async def leave_lists(self) -> None:
        """Has the master keep as many rests of lists as it may, all of what is there now: they are kept for five
        minutes or until there are more, and how much of the past they hold would depend on how long rounds take."""
        for _ in range(LISTS):
            await self._calls.pods("", 1)

    async def round(self, turn: int) -> None:
        """One round of everything, side by side. Raises TooSlow."""
        each = range(self._scale)
        work: dict[str, Coroutine[Any, Any, None]] = {f"web-{n}": self._web(n, turn) for n in each}
        work |= {f"old-{n}": self._replicas(f"old-{n}", turn % 5, 3) for n in each}
        # Begun anew, or the pods would soon wait for five minutes each.
        work |= {f"crash-{n}": self._replicas(f"crash-{n}", 0, 2) for n in each}
        work |= {f"bad-{n}": self._bad_image(n, turn) for n in each}
        work |= {"config": self._configs(turn), "daemons": self._daemons(turn), "jobs": self._jobs(turn)}
        work |= {"evict": self._evictions(), "look": self._looks(), "space": self._passing(turn)}
        work["big"] = self._too_big(turn)
        try:
            async with asyncio.TaskGroup() as group:
                for name, steps in work.items():
                    group.create_task(steps, name=name)
        except* TooSlow as errors:
            raise errors.exceptions[0] from None

    async def remove_node(self, name: str) -> None:
        """A machine that will not come back."""
        await self._delete("node removed", "Node", "", name)

    # -- rollouts -----------------------------------------------------------------------------

    async def _web(self, number: int, turn: int) -> None:
        name = f"web-{number}"
        for step in range(2):
            stamp = turn * 2 + step
            image = IMAGES[stamp % len(IMAGES)]
            pod = {"metadata": {"annotations": {"turn": str(stamp)}}, "spec": _image(image)}
            await self._calls.patch("Deployment", name, {"spec": {"template": pod}})
            await self._deployed(name, "rollout")
            await self._calls.patch("Deployment", name, {"spec": {"replicas": SIZES[stamp % len(SIZES)]}})
            await self._deployed(name, "scaling")

    async def _replicas(self, name: str, *sizes: int) -> None:
        for replicas in sizes:
            await self._calls.patch("ReplicationController", name, {"spec": {"replicas": replicas}})
            await self._until("scaling of a ReplicationController", name, self._has("ReplicationController", name))

    async def _bad_image(self, number: int, turn: int) -> None:
        name = f"bad-{number}"
        # Ready for the instant before they crash, all its pods would make a complete rollout now and then, on a machine
        # that is busy elsewhere; and what was complete does not go back.
        bad = {"name": "app", "image": "crash:1", "readinessProbe": probe("/crash")}
        pod = {"metadata": {"annotations": {"turn": str(turn)}}, "spec": {"containers": [bad]}}
        await self._calls.patch("Deployment", name, {"spec": {"template": pod}})

        async def back() -> bool:
            found = await self._calls.get("Deployment", name)
            return bool(found.spec.template.spec.containers[0].image == IMAGES[0]) and deployed(found, available=True)

        await self._until("rollback", name, back)

    async def _configs(self, turn: int) -> None:
        await self._config(turn)

        async def rolled() -> bool:
            found = [await self._calls.get("Deployment", f"config-{number}") for number in range(self._scale)]
            hashes = {one.spec.template.metadata.annotations.get("sampan.dev/config-hash", "") for one in found}
            return len(hashes) == 1 and all(deployed(one, available=True) for one in found)

        await self._until("config rollout", "config", rolled)

    async def _config(self, turn: int) -> None:
        meta = {"name": "settings", "namespace": SPACE}
        data = {"TURN": str(turn)}
        await self._calls.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})

    async def _daemons(self, turn: int) -> None:
        """Its end is seen when the round is over and every node is back."""
        await self._calls.apply(daemons(turn))
        self.done["daemon rollout"] += 1

    # -- what comes and goes --------------------------------------------------------------------

    async def _jobs(self, turn: int) -> None:
        for number in range(JOBS):
            name = f"job-{turn}-{number}"
            await self._calls.apply(job(name, "fail:1" if number == 0 else "work:1", indexed=bool(number % 2)))
            await self._gone("job", "Job", SPACE, name)

    async def _evictions(self) -> None:
        for number in range(self._scale):
            found = await self._calls.pods(f"app=web-{number}", 1)
            for pod in found:
                with self._no("eviction"):
                    await self._calls.evict(pod.metadata.name)
                    self.done["eviction"] += 1

    async def _looks(self) -> None:
        """Watches, followed logs, commands and forwarded ports that their users walk away from."""
        for number in range(LOOKS):
            await self._calls.leave_watch()
            self.done["watch left"] += 1
            running = [one for one in await self._calls.pods("", 50) if one.status.phase == "Running"]
            looks = (self._calls.leave_logs, self._calls.leave_exec, self._calls.leave_port)
            for at, leave in enumerate(looks):
                if running:
                    with self._no("look"):
                        await leave(running[(number + at) % len(running)].metadata.name)
                        self.done["stream left"] += 1

    async def _passing(self, turn: int) -> None:
        """A namespace with something in it."""
        name = f"passing-{turn}"
        await self._calls.apply(namespace(name))
        made = deployment("guest", 3, IMAGES[0])
        made["metadata"]["namespace"] = name
        del made["spec"]["template"]["spec"]["containers"][0]["envFrom"]
        await self._calls.apply(made)

        async def runs() -> bool:
            return deployed(await self._calls.get("Deployment", "guest", name), available=True)

        await self._until("first rollout", f"{name}/guest", runs)
        await self._delete("namespace", "Namespace", "", name)

    async def _too_big(self, turn: int) -> None:
        """A pod that fits nowhere, until it is told so."""
        name = f"big-{turn}"
        container = {"name": "big", "image": IMAGES[0], "resources": {"requests": {"memory": "4Ti"}}}
        meta = {"name": name, "namespace": SPACE}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
        await self._calls.apply(manifest)
        await self._until("refusal", name, lambda: self._told(SPACE, name))
        await self._delete("pod that fits nowhere", "Pod", SPACE, name)

    # -- to the end -----------------------------------------------------------------------------

    async def _deployed(self, name: str, step: str) -> None:
        async def over() -> bool:
            return deployed(await self._calls.get("Deployment", name))

        await self._until(step, name, over)

    def _has(self, kind: str, name: str) -> Callable[[], Awaitable[bool]]:
        async def has() -> bool:
            found = await self._calls.get(kind, name)
            return bool(found.status.replicas == wanted_pods(found))

        return has

    async def _delete(self, step: str, kind: str, space: str, name: str) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._calls.delete(kind, space, name)
        await self._gone(step, kind, space, name, again=True)

    async def _gone(self, step: str, kind: str, space: str, name: str, *, again: bool = False) -> None:
        async def gone() -> bool:
            try:
                await self._calls.get(kind, name, space)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return True
                raise
            if again:
                await self._calls.delete(kind, space, name)
            return False

        await self._until(step, name, gone)

    async def _until(self, step: str, what: str, over: Callable[[], Awaitable[bool]]) -> None:
        """Asks until it is so. An answer that does not come is asked for again. Raises TooSlow."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with self._no(step):
                        if await over():
                            self.done[step] += 1
                            return
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            raise TooSlow(f"{step} of {what} did not end within {PATIENCE:.0f} s") from None

    @contextlib.contextmanager
    def _no(self, step: str) -> Any:
        """A refusal is counted, and no more: a budget that has nothing left, a pod that has just gone."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            self.refused[f"{step} {error.code().name}"] += 1


def _image(image: str) -> dict[str, Any]:
    return {"containers": [{"name": "app", "image": image}]}
