"""Rounds of whole clusters in turns: ours, the peer's, who is first changing; more where some were disturbed."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from bench.calm import Calm
from bench.report import console
from bench.slices import STOLEN, Bar, Patience, Slice, paired

# Seconds between a slice and its neighbour of the same round, at most; and for rounds beyond those that were asked for.
REACH, PATIENCE = 180.0, 600.0
Times = dict[str, list[Slice[float]]]
Act = Callable[[], Awaitable[None]]


def options(parser: argparse.ArgumentParser) -> None:
    """The words that all benches in rounds know."""
    parser.add_argument("--bar", type=float, default=STOLEN * 100, help="percent stolen up to which a slice is calm")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for waiting and for more rounds")


def calm_of(parsed: argparse.Namespace) -> Calm:
    """For clusters nobody can say which of the machine's processes are the bench's: only steal is judged."""
    return Calm(Bar(parsed.bar / 100, math.inf), Patience(parsed.patience))


def calm_pairs(ours: Mapping[str, Sequence[Slice[float]]], theirs: Mapping[str, Sequence[Slice[float]]]) -> int:
    """How many calm pairs there are of whatever has the fewest."""
    counts = [
        sum(pair.level <= 1 for pair in paired(values, theirs[name], REACH))
        for name, values in ours.items()
        if name in theirs
    ]
    return min(counts, default=0)


def worked(times: Times) -> Times:
    """Processor seconds of the whole machine in place of the seconds by the clock: steal does not count in them."""
    ticks = os.sysconf("SC_CLK_TCK")
    return {name: [replace(one, value=one.noise.busy / ticks) for one in slices] for name, slices in times.items()}


async def in_turns(calm: Calm, sides: Sequence[Act], rounds: int, pairs: Callable[[], int]) -> int:
    """`rounds` rounds, and more while there are fewer calm `pairs` and patience is left; how many there were."""
    number = 0
    while number < rounds or (pairs() < rounds and calm.patience.left > 0):
        begun = time.monotonic()
        for act in sides if number % 2 == 0 else reversed(sides):
            if calm.kept and calm.kept[-1].level > 1:
                await asyncio.to_thread(calm.wait)
            await act()
        number += 1
        if number > rounds:
            calm.patience.spend(time.monotonic() - begun)
        console.print(f"[dim]round {number}, {pairs()} calm pairs of at least {rounds} wanted[/dim]")
    return number
