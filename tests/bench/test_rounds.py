"""Rounds of two sides: who is first changes, and more are done while too few were calm."""

from __future__ import annotations

import argparse
import math

from bench.calm import Calm
from bench.rounds import calm_of, calm_pairs, in_turns, options
from bench.slices import Bar, Patience, Slice


async def test_the_first_side_changes() -> None:
    done: list[str] = []

    async def ours() -> None:
        done.append("ours")

    async def theirs() -> None:
        done.append("theirs")

    calm = Calm(Bar(math.inf, math.inf), Patience(0.0))
    assert await in_turns(calm, (ours, theirs), 3, lambda: 3) == 3
    assert done == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


async def test_more_rounds_while_pairs_are_missing() -> None:
    done: list[str] = []

    async def ours() -> None:
        done.append("ours")

    calm = Calm(Bar(math.inf, math.inf), Patience(60.0))
    assert await in_turns(calm, (ours,), 2, lambda: len(done) // 2) == 4


async def test_no_more_rounds_than_patience_allows() -> None:
    async def nothing() -> None:
        return

    calm = Calm(Bar(math.inf, math.inf), Patience(0.0))
    assert await in_turns(calm, (nothing,), 2, lambda: 0) == 2


def test_what_has_the_fewest_calm_pairs_counts() -> None:
    calm, loud = Slice(1.0, 0.0), Slice(1.0, 5.0, level=2.0)
    ours = {"create": [calm, loud], "replace": [calm, calm], "alone": [loud]}
    theirs = {"create": [calm, calm], "replace": [calm, calm]}
    assert calm_pairs(ours, theirs) == 1
    assert calm_pairs({}, theirs) == 0


def test_only_steal_is_judged_where_nobody_knows_whose_processes_are_whose() -> None:
    parser = argparse.ArgumentParser()
    options(parser)
    calm = calm_of(parser.parse_args(["--bar", "5", "--patience", "7"]))
    assert (calm.bar.stolen, calm.bar.others, calm.patience.left) == (0.05, math.inf, 7)
