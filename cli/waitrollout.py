"""Waits for rollouts, tells how far they are, and in the end why one failed, with its container's last words."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import click

from cli.client import Client
from cli.rollouts.deployment import revision_of
from cli.rollouts.registry import ROLLOUTS, newest_pods, pods_selector
from cli.rollouts.verdict import FAILED, Verdict
from common import kinds
from common.errors import NotFound, SampanError, Unavailable
from common.kinds import Kind
from common.podtrouble import Trouble, worst
from protos import control_pb2 as control

AUTO_ROLLBACK = "sampan.dev/auto-rollback"
_PAUSE_SECONDS = 0.3
_PATIENCE_SECONDS = 60.0
# The master rolls back in the pass that sees the failure; this much later nothing is to be expected.
_ROLLBACK_SECONDS = 15.0
_LOG_LINES = 10


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended: exit code, one line, and the last log lines of the container that failed."""

    code: int
    text: str
    log: str = ""
    container: str = ""


class Progress:
    """Where progress goes: one living line on a terminal, else a line whenever there is something new."""

    def __init__(self) -> None:
        self._last = ""
        self._live: Any = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._live = Console(stderr=True, highlight=False).status("", spinner="dots")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(text))
        elif text != self._last:
            click.echo(text)
        self._last = text


class RolloutWait:
    """One workload's rollout. `until` in time.monotonic() seconds, None: no limit."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        until: float | None,
        show: Callable[[str], None],
        revision: int = 0,
        give_up: bool = True,
    ) -> None:
        self._client, self._kind, self._namespace, self._name = client, kind, namespace, name
        self._until, self._show, self._revision, self._give_up = until, show, revision, give_up
        self._trouble: Trouble | None = None
        self._log: tuple[Trouble, str] | None = None
        self._failed_at: float | None = None

    def wait(self) -> Outcome:
        """Returns when it is through, back, or failed; raises NotFound when the object goes away."""
        lost_at: float | None = None
        while True:
            try:
                verdict = self.look()
                lost_at = None
                if verdict.code is not None:
                    return self._outcome(verdict)
                self._show(self._told(verdict))
            except Unavailable:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > _PATIENCE_SECONDS:
                    raise
            if self._until is not None and time.monotonic() >= self._until:
                return self._outcome(Verdict(f"{self._what()}: timed out waiting for its rollout", FAILED))
            time.sleep(_PAUSE_SECONDS)

    def once(self) -> Outcome:
        """How far it is now; code 0 also while it goes on, as with kubectl."""
        verdict = self.look()
        return Outcome(0, self._told(verdict)) if verdict.code is None else self._outcome(verdict)

    def look(self) -> Verdict:
        """How far it is now, with trouble noted. Raises NotFound."""
        obj = self._client.get(self._kind, self._namespace, self._name)
        if self._revision and revision_of(obj.metadata.annotations) != self._revision:
            now = revision_of(obj.metadata.annotations)
            return Verdict(
                f"desired revision ({self._revision}) is different from the running revision ({now})", FAILED
            )
        verdict = ROLLOUTS[self._kind.kind].verdict(obj)
        if verdict.code == 0:
            return verdict
        if verdict.code not in (None, FAILED):
            return verdict
        self._note_trouble(obj)
        returning = obj.metadata.annotations.get(AUTO_ROLLBACK) == "true"
        definite = self._trouble is not None and self._trouble.definite and self._give_up
        if verdict.code is None and definite and not returning:
            return Verdict(f"{self._what()} can't be rolled out", FAILED)
        if verdict.code == FAILED and returning:
            # It is about to go back, where there is something to go back to.
            self._failed_at = self._failed_at or time.monotonic()
            if time.monotonic() - self._failed_at < _ROLLBACK_SECONDS:
                return replace(verdict, code=None)
        return verdict

    def _what(self) -> str:
        return f'{self._kind.kind.lower()} "{self._name}"'

    def _told(self, verdict: Verdict) -> str:
        return f"{verdict.text} ({self._trouble})" if self._trouble is not None else verdict.text

    def _outcome(self, verdict: Verdict) -> Outcome:
        assert verdict.code is not None
        if verdict.code == 0:
            return Outcome(0, verdict.text)
        text = verdict.text
        if verdict.code == FAILED and self._trouble is not None:
            text = f"{text}: {self._trouble}"
        if self._log is None:
            return Outcome(verdict.code, text)
        trouble, log = self._log
        return Outcome(verdict.code, text, log, f"{trouble.pod}, container {trouble.container}")

    def _note_trouble(self, obj: Any) -> None:
        """What is wrong with the new pods; a container's last lines are kept, for its pod may be gone soon."""
        pods = [obj] if self._kind is kinds.POD else self._pods(obj)
        found = worst(pods, time.time())
        if found is None:
            self._trouble = None
            return
        if self._log is None or str(found) != str(self._trouble):
            self._keep_log(found, pods)
        self._trouble = found

    def _pods(self, obj: Any) -> list[Any]:
        labels = pods_selector(obj)
        if not labels:
            return []
        pods = self._client.list(kinds.POD, self._namespace, labels=labels).items
        sets = []
        if self._kind is kinds.DEPLOYMENT:
            sets = self._client.list(kinds.REPLICA_SET, self._namespace, labels=labels).items
        return newest_pods(obj, pods, sets)

    def _keep_log(self, trouble: Trouble, pods: list[Any]) -> None:
        pod = next((pod for pod in pods if pod.metadata.name == trouble.pod), None)
        statuses = [*pod.status.initContainerStatuses, *pod.status.containerStatuses] if pod is not None else []
        status = next((one for one in statuses if one.name == trouble.container), None)
        if status is None or not status.containerID:
            return
        request = control.LogsRequest(
            namespace=self._namespace, pod=trouble.pod, container=trouble.container, tail_lines=_LOG_LINES
        )
        try:
            text = b"".join(self._client.logs(request)).decode(errors="replace").strip("\n")
        except SampanError:
            # A courtesy: the reason itself is told anyway.
            return
        if text:
            self._log = (trouble, text)


def tell(outcome: Outcome, hint: str = "") -> None:
    """The end of a rollout: on standard output when it is well, else the reason and the last log lines on stderr."""
    if outcome.code == 0:
        click.echo(outcome.text)
        return
    click.echo(f"error: {outcome.text}{f' ({hint})' if hint else ''}", err=True)
    if outcome.log:
        click.echo(f"last lines of {outcome.container}:", err=True)
        for line in outcome.log.splitlines():
            click.echo(f"  {line}", err=True)


def wait_for_all(client: Client, workloads: list[tuple[Kind, str, str]], seconds: float) -> int:
    """Waits for each (kind, namespace, name) in turn and tells the ends; the highest exit code of all."""
    until = time.monotonic() + seconds if seconds > 0 else None
    worst_code = 0
    for kind, namespace, name in workloads:
        try:
            with Progress() as progress:
                waiter = RolloutWait(client, kind, namespace, name, until=until, show=progress.show)
                outcome = waiter.wait()
        except NotFound as error:
            outcome = Outcome(FAILED, str(error))
        tell(outcome, hint_for(kind, name) if outcome.code == FAILED else "")
        worst_code = max(worst_code, outcome.code)
    return worst_code


def hint_for(kind: Kind, name: str) -> str:
    """What to do about a failed rollout."""
    if kind is kinds.DEPLOYMENT:
        return f"`sampan rollout undo deployment/{name}` goes back, `sampan describe deployment {name}` tells more"
    return f"`sampan describe {kind.singular} {name}` tells more"
