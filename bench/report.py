"""How every bench says what it measured: machine, versions, medians, and the ratio to the peer of the same run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.slices import Chosen, Slice, choose, paired, ratio
from common.version import VERSION

# So many pairs make a median.
ENOUGH = 3
console = Console(width=110, highlight=False)


def heading(title: str, *peers: str) -> None:
    """Prints the machine and the versions that the figures below belong to; `peers` like "docker 20.10.24"."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ours = f"sampan {VERSION}, Python {platform.python_version()}, grpcio {version('grpcio')}"
    console.print(f"\n[bold]{title}[/bold]")
    console.print(f"machine:  {os.cpu_count()} × {_cpu()}, {memory:.0f} GiB, Linux {platform.release()}")
    console.print(f"versions: {', '.join((ours, *peers))}")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def docker_version() -> str:
    """The local engine's version, for `heading`."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return "docker " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def compare(unit: str, ours: Mapping[str, Sequence[float]], peer: str, theirs: Mapping[str, Sequence[float]]) -> None:
    """A table of medians (with the least and the most) of each measured thing, and the ratio ours/peer."""
    table = Table("", "Sampan", peer, "ratio", title=f"medians, {unit}", title_justify="left")
    for name, values in ours.items():
        other = theirs.get(name)
        ratio = f"{statistics.median(values) / statistics.median(other):.2f}" if other else "-"
        table.add_row(name, spread(values), spread(other) if other else "-", ratio)
    console.print(table)


def pairs(
    unit: str,
    ours: Mapping[str, Sequence[Slice[float]]],
    peer: str,
    theirs: Mapping[str, Sequence[Slice[float]]],
    reach: float,
) -> dict[str, Chosen]:
    """A table of medians of what was measured in turns, and of the ratios of neighbours, which it returns.

    `reach`: how many seconds neighbours may be apart. A figure that does not rest on calm slices has a ~ before it.
    """
    title = f"medians, {unit}; median ratio of neighbours (pairs)"
    table = Table("", "Sampan", peer, "ratio", title=title, title_justify="left")
    found: dict[str, Chosen] = {}
    for name, values in ours.items():
        other = theirs.get(name, ())
        to = ratio(paired(values, other, reach), ENOUGH)
        if to.of:
            found[name] = to
        told = f"{_mark(to)}{to.value:.2f} ({to.counted} of {to.of})" if to.of else "-"
        table.add_row(name, _median(values), _median(other) if other else "-", told)
    console.print(table)
    return found


def _median(values: Sequence[Slice[float]]) -> str:
    found = choose([(one.value, one.level) for one in values], ENOUGH)
    if not found.of:
        return "-"
    all_ = [one.value for one in values]
    return f"{_mark(found)}{found.value:.2f} (all {min(all_):.2f}-{max(all_):.2f}, n={found.of})"


def _mark(found: Chosen) -> str:
    return "" if found.calm else "~"


def verdict(what: str, found: Chosen, wanted: float, *, most: bool = False) -> str:
    """`holds` or `MISSED`, the median ratio, and what it rests on; `most`: the ratio may be at most `wanted`."""
    held = found.value <= wanted if most else found.value >= wanted
    kind = "calm pairs" if found.calm else f"pairs, the least disturbed, up to {found.level:.0f} x the bar: NOT CALM"
    return (
        f"{'holds' if held else 'MISSED'}: {what} {'<=' if most else '>='} {wanted:g} x: {found.value:.2f} x "
        f"({found.counted} of {found.of} {kind})"
    )


def spread(values: Sequence[float]) -> str:
    """`median (least-most, n)` of some figures."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}, n={len(values)})"
