"""What bench.proxy says of its slices: tables, and a line for each target."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench.proxy_load import Bulk, Idle, Requests
from bench.proxy_turns import AWAY, DIRECT, HAPROXY, NFTABLES, ONE_RULE, SAMPAN, Form
from bench.report import ENOUGH, console, verdict
from bench.slices import Chosen, Slice, choose, paired, ratio

KEPT, MANY, EACH, ALONE = "kept, 64", "kept, 1,000", "conn/request", "one connection"
BULK1, BULK8 = "bulk, 1", "bulk, 8"
# A slice and its peer's beside it are at most so many seconds apart, also when one of them was taken again.
REACH = 20.0
# The heap that an idle connection may cost beyond its sockets, in bytes.
HEAP = 2048
ASYNCIO = {KEPT: 1.0, MANY: 1.0, EACH: 0.8, BULK1: 1.5, BULK8: 1.5}
# Of what the kernel does with one rule that translates, and nothing else.
FLOOR = 0.97
KERNEL = dict.fromkeys((KEPT, MANY, EACH, BULK1, BULK8), 0.95)
Taken = Requests | Bulk
Pick = Callable[[Taken], float]


def rate(taken: Taken) -> float:
    """Requests a second, or Gbit/s."""
    return taken.rate


def cpu(taken: Taken) -> float:
    """Of the proxy: microseconds a request, or seconds a GB."""
    return taken.cpu


def path(taken: Taken) -> float:
    """The same of everything that took part: client, proxy, endpoint and kernel."""
    return taken.path


@dataclass
class Results:
    """All slices by case and form; connections held idle by form."""

    forms: Sequence[Form]
    taken: dict[str, dict[str, list[Slice[Taken]]]] = field(default_factory=lambda: defaultdict(dict))
    idle: dict[str, Idle] = field(default_factory=dict)
    heap: float = math.nan

    def add(self, case: str, form: str, taken: Slice[Taken]) -> None:
        self.taken[case].setdefault(form, []).append(taken)

    def figures(self, case: str, form: str, pick: Pick = rate) -> list[Slice[float]]:
        slices = self.taken.get(case, {}).get(form, [])
        return [Slice(pick(one.value), one.at, one.level, one.noise) for one in slices]

    def median(self, case: str, form: str, pick: Pick = rate) -> Chosen:
        return choose([(one.value, one.level) for one in self.figures(case, form, pick)], ENOUGH)

    def ratio(self, case: str, form: str, peer: str, pick: Pick = rate) -> Chosen:
        """The median of the ratios of slices that were taken beside each other."""
        return ratio(paired(self.figures(case, form, pick), self.figures(case, peer, pick), REACH), ENOUGH)

    def added(self, form: str, pick: Pick) -> Chosen:
        """Microseconds more than direct, by the same way, on one connection, pair by pair."""
        direct = DIRECT + AWAY if AWAY in form else DIRECT
        pairs = paired(self.figures(ALONE, form, pick), self.figures(ALONE, direct, pick), REACH)
        return choose([(pair.ours - pair.theirs, pair.level) for pair in pairs], ENOUGH)


def p50(taken: Taken) -> float:
    return taken.p50 if isinstance(taken, Requests) else math.nan


def p99(taken: Taken) -> float:
    return taken.p99 if isinstance(taken, Requests) else math.nan


def show(results: Results) -> None:
    """The tables; a figure whose slices were disturbed has a ~ before it."""
    cases = [case for case in (KEPT, MANY, EACH, BULK1, BULK8) if results.taken.get(case)]
    if cases:
        console.print(_rates(results, cases))
        console.print(_costs(results, cases))
    if results.taken.get(ALONE) or results.idle:
        console.print(_others(results))
    if not math.isnan(results.heap):
        console.print(f"Python heap per idle connection, both legs (tracemalloc): {results.heap:,.0f} bytes")


def _rates(results: Results, cases: list[str]) -> Table:
    table = Table("", "to", title="median rate, median ratio of slices side by side (pairs)", title_justify="left")
    for case in cases:
        table.add_column(f"{case} {'Gbit/s' if case in (BULK1, BULK8) else '1/s'}", justify="right")
    for form in results.forms:
        cells = []
        for case in cases:
            found = results.median(case, form.name)
            form_of = "{:.1f}" if case in (BULK1, BULK8) else "{:,.0f}"
            cells.append(_cell(found, form_of, results.ratio(case, form.name, form.peer) if form.peer else None))
        table.add_row(form.name, form.peer.split(",")[0], *cells)
    return table


def _cell(found: Chosen, form: str, to: Chosen | None) -> str:
    if not found.of:
        return "-"
    text = ("" if found.calm else "~") + form.format(found.value)
    if to is None or not to.of:
        return text
    return f"{text}  {'' if to.calm else '~'}{to.value:.2f} ({to.counted})"


def _costs(results: Results, cases: list[str]) -> Table:
    title = "processor time of the proxy, and of client, proxy, endpoint and kernel together (ratio to the peer's)"
    table = Table("", title=title, title_justify="left")
    for case in cases:
        table.add_column(f"{case} {'s/GB' if case in (BULK1, BULK8) else 'us'}", justify="right")
    for form in results.forms:
        cells = []
        for case in cases:
            proxy, all_ = (results.median(case, form.name, pick) for pick in (cpu, path))
            digits = ".2f" if case in (BULK1, BULK8) else ".0f"
            text = f"{proxy.value:{digits}} of {all_.value:{digits}}" if all_.of else "-"
            to = results.ratio(case, form.name, form.peer, path) if form.peer else None
            cells.append(f"{text}  {to.value:.2f}" if to and to.of else text)
        table.add_row(form.name, *cells)
    return table


def _others(results: Results) -> Table:
    title = "what one connection's requests take longer than direct (direct: what they take); idle connections"
    table = Table("", "p50 us", "p99 us", "bytes each", "all", title=title, title_justify="left")
    for form in results.forms:
        cells = []
        for pick in (p50, p99):
            of_direct = not form.peer
            found = results.median(ALONE, form.name, pick) if of_direct else results.added(form.name, pick)
            cells.append(format(found.value, ".0f" if of_direct else "+.0f") if found.of else "-")
        held = results.idle.get(form.name)
        cells += [f"{held.each:,.0f}", f"{held.total:.0f} MB, {held.count:,}"] if held else ["-", "-"]
        table.add_row(form.name, *cells)
    return table


def verdicts(results: Results, idle: int) -> list[str]:
    """A line for each target whose forms were measured."""
    lines = []
    names = [form.name for form in results.forms]
    relays = [name for name in names if name.startswith(SAMPAN)]
    for name in relays:
        for case, wanted in ASYNCIO.items():
            found = results.ratio(case, name, HAPROXY)
            if found.of:
                lines.append(verdict(f"{name}, {case}, to {HAPROXY}", found, wanted))
    for form in results.forms:
        if not form.name.startswith(NFTABLES):
            continue
        for case, wanted in KERNEL.items():
            found = results.ratio(case, form.name, form.peer)
            if found.of:
                lines.append(verdict(f"{form.name}, {case}, to direct", found, wanted))
            # What is left of that by any translation in the kernel: only the rest is ours.
            floor = results.ratio(case, form.name, form.name.replace(NFTABLES, ONE_RULE))
            if floor.of:
                lines.append(verdict(f"{form.name}, {case}, to the kernel's one rule", floor, FLOOR))
    if relays and relays[-1] in results.idle:
        held = results.idle[relays[-1]].count
        lines.append(f"{'holds' if held >= idle else 'MISSED'}: idle connections held >= {idle:,}: {held:,}")
    if not math.isnan(results.heap):
        word = "holds" if results.heap <= HEAP else "MISSED"
        lines.append(f"{word}: Python heap of an idle connection <= {HEAP:,} bytes: {results.heap:,.0f} bytes")
    return lines


def baselines(results: Results) -> list[str]:
    """This tree's relay beside the other checkout's."""
    lines = []
    for form in results.forms:
        if not form.name.startswith(SAMPAN):
            continue
        other = form.name.replace(SAMPAN, "baseline asyncio")
        for case in (KEPT, MANY, EACH, BULK1, BULK8):
            found = results.ratio(case, form.name, other)
            if found.of:
                used = results.ratio(case, form.name, other, cpu)
                mark = "" if found.calm else ", NOT CALM"
                lines.append(
                    f"{form.name}, {case}, to the baseline: {found.value:.2f} x, "
                    f"processor time {used.value:.2f} x ({found.counted} pairs{mark})"
                )
    return lines
