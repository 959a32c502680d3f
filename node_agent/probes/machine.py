"""From a container's probe answers to its health: thresholds and gates as Kubernetes has them; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.probes.health import Health
from node_agent.probes.rules import Kind, Rules

_FIRST_RETRY_SECONDS = 0.2
_RETRY_GROWTH = 1.25


@dataclass(frozen=True)
class Tally:
    """How often in a row a probe has last said the same."""

    last: bool = False
    run: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a running container stands. `failed` is the probe it is to end for; nothing changes after that."""

    started: bool
    ready: bool
    failed: Kind | None = None
    tallies: Mapping[Kind, Tally] = field(default_factory=dict)
    # Failed answers to the readiness probe before the first time it was ready.
    fruitless: int = 0


def begin(rules: Mapping[Kind, Rules], kept: Health | None = None) -> Progress:
    """A container that has just started, or (`kept`) one whose health an earlier agent has reported."""
    started = Kind.STARTUP not in rules or (kept is not None and kept.started)
    ready = started and (Kind.READINESS not in rules or (kept is not None and kept.ready))
    return Progress(started, ready)


def is_asked(progress: Progress, kind: Kind) -> bool:
    """Whether an answer to this probe counts now: the startup probe until it has succeeded, then the others."""
    return progress.failed is None and progress.started != (kind is Kind.STARTUP)


def after(rules: Mapping[Kind, Rules], progress: Progress, kind: Kind, well: bool) -> Progress:
    """The container after one answer."""
    if not is_asked(progress, kind):
        return progress
    rule, before = rules[kind], progress.tallies.get(kind, Tally())
    tally = Tally(well, before.run + 1 if before.run and before.last == well else 1)
    progress = dataclasses.replace(progress, tallies={**progress.tallies, kind: tally})
    if kind is Kind.READINESS and not well and not progress.ready:
        progress = dataclasses.replace(progress, fruitless=progress.fruitless + 1)
    if tally.run < (rule.success if well else rule.failure):
        return progress
    if kind is Kind.READINESS:
        return dataclasses.replace(progress, ready=well)
    if not well:
        return dataclasses.replace(progress, failed=kind)
    if kind is Kind.STARTUP:
        return dataclasses.replace(progress, started=True, ready=Kind.READINESS not in rules)
    return progress


def pause(rule: Rules, progress: Progress, kind: Kind, was_ready: bool) -> float:
    """Seconds from one question to the next. `was_ready`: the container has been ready before.

    One that has not is asked after 0.2 s first, and then each time after 1.25 times the pause before: what listens a
    moment late need not wait a period, but at most a quarter of the time that it took.
    """
    if kind is not Kind.READINESS or was_ready or progress.ready or not progress.fruitless:
        return rule.period
    return min(rule.period, _FIRST_RETRY_SECONDS * _RETRY_GROWTH ** min(progress.fruitless - 1, 64))
