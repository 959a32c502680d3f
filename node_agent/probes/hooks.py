"""postStart and preStop: run, bounded, and their failures told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import SampanError
from node_agent.probes.handlers import WELL, Handlers, Lingering, Outcome, Target, Verdict, http_request
from protos.core_pb2 import LifecycleHandler, Pod

Note = Callable[[Pod, str, str, str, str], None]
"""Pod, type, reason, message and container name of an Event."""


class HookFailed(SampanError):
    """The postStart hook of container `id` failed: it is to end."""

    reason = "PostStartHookError"

    def __init__(self, id: str, message: str) -> None:
        self.id = id
        super().__init__(message)


class Hooks:
    """The hooks of all pods of a node."""

    def __init__(self, handlers: Handlers, note: Note) -> None:
        self._handlers, self._note = handlers, note

    async def post_start(self, pod: Pod, target: Target) -> None:
        """Returns when the hook is over; without a limit, as in Kubernetes. Raises HookFailed."""
        lifecycle, name = target.container.lifecycle, target.container.name
        if not lifecycle.HasField("postStart"):
            return
        outcome = await self._run(lifecycle.postStart, target)
        if outcome.verdict is Verdict.WELL:
            return
        message = f"postStart hook of container {name} failed: {outcome.message}"
        self._note(pod, "Warning", "FailedPostStartHook", message, name)
        raise HookFailed(target.id, f"Container {name} failed its postStart hook")

    async def pre_stop(self, pod: Pod, target: Target, grace: float) -> None:
        """Returns when the hook is over, at the latest after `grace` seconds; a failure is only told."""
        lifecycle, name = target.container.lifecycle, target.container.name
        if not lifecycle.HasField("preStop"):
            return
        try:
            async with asyncio.timeout(grace):
                outcome = await self._run(lifecycle.preStop, target)
        except TimeoutError:
            outcome = Outcome(Verdict.FAILED, f"it was not over within the grace period of {grace:g}s")
        if outcome.verdict is not Verdict.WELL:
            message = f"preStop hook of container {name} failed: {outcome.message}"
            self._note(pod, "Warning", "FailedPreStopHook", message, name)

    async def _run(self, handler: LifecycleHandler, target: Target) -> Outcome:
        if handler.HasField("exec"):
            return await self._handlers.run(target, handler.exec, None, Lingering())
        if handler.HasField("sleep"):
            await asyncio.sleep(handler.sleep.seconds)
            return WELL
        if handler.HasField("httpGet"):
            try:
                # A kubelet looks at no status here.
                await self._handlers.get(http_request(handler.httpGet, target))
            except SampanError as error:
                return Outcome(Verdict.FAILED, str(error))
            return WELL
        return Outcome(Verdict.FAILED, "it has no exec, httpGet or sleep")
