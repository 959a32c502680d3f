"""`make bench-proxy`: our data planes against HAProxy, nginx, Envoy and a direct connection, slice by slice.

    python -m bench.proxy [--quick] [--only FORM,...] [--what kept,conn,bulk] [--baseline CHECKOUT]

Load generator, proxies and endpoint share the machine's cores, so ratios count, not figures: every form is up all the
time, is measured in slices of a second, and each slice has one of its peer's beside it (docs/benches.md). Everything
runs in network namespaces of its own; run as root.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import proxy_load as load
from bench import proxy_show as show
from bench.calm import Calm
from bench.proxy_forms import Forms
from bench.proxy_idle import raise_limit
from bench.proxy_peers import Peer, versions
from bench.proxy_show import ALONE, BULK1, BULK8, EACH, KEPT, MANY, Results, Taken
from bench.proxy_space import enter, install, own_ticks
from bench.proxy_turns import SAMPAN, forms, select, turns
from bench.report import console, heading
from bench.slices import OTHERS, STOLEN, Bar, Patience

# Seconds of a slice. A thousand connections are opened within the time that wrk counts.
SECONDS, MANY_SECONDS = 1, 2
IDLE_COUNT, IDLE_QUICK = 10_000, 2_000
PATIENCE, PATIENCE_QUICK = 240.0, 60.0
# A form that uses more of a processor while nobody asks it for anything falls on the others.
IDLE_COST = 0.01

Act = Callable[[Peer], Taken]
CASES: dict[str, Act] = {
    KEPT: lambda peer: load.requests(peer, 64, SECONDS),
    EACH: lambda peer: load.requests(peer, 16, SECONDS, close=True),
    BULK1: lambda peer: load.bulk(peer, 1, SECONDS),
    BULK8: lambda peer: load.bulk(peer, 8, SECONDS),
    MANY: lambda peer: load.requests(peer, 1000, MANY_SECONDS),
    ALONE: lambda peer: load.requests(peer, 1, SECONDS),
}
IDLE = "idle"
WHAT: dict[str, tuple[str, ...]] = {
    "kept": (KEPT,),
    "conn": (EACH,),
    "bulk": (BULK1, BULK8),
    "many": (MANY,),
    "latency": (ALONE,),
    IDLE: (IDLE,),
}


def words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def measure(peers: dict[str, Peer], results: Results, calm: Calm, cases: list[str], rounds: int) -> None:
    """All rounds: in each, case by case, the forms in turns."""
    for number in range(rounds):
        for case in cases:
            bulk = case in (BULK1, BULK8)
            here = [form for form in results.forms if form.name in peers and (bulk or not form.bulk_only)]
            for name in turns(here, number):
                peer = peers[name]

                def act(case: str = case, peer: Peer = peer) -> Taken:
                    return CASES[case](peer)

                results.add(case, name, calm.take(act))
        console.print(f"[dim]round {number + 1} of {rounds}: {calm.thrown} slices thrown away so far[/dim]")


def warm(running: Forms) -> None:
    """Every form has carried something before anything counts; says which of them are not idle when they should be."""
    for peer in running.peers.values():
        CASES[BULK1 if peer.bulk_only else EACH](peer)
    for name, share in running.idle_cost(2.0).items():
        if share > IDLE_COST:
            console.print(f"{name} uses {share:.1%} of a processor while idle")


def hold(peers: dict[str, Peer], results: Results, count: int) -> None:
    """Idle connections, form by form: memory does not mind what else the machine does."""
    for name, peer in peers.items():
        if not peer.pid or peer.bulk_only:
            continue
        holder = load.Holder(peer.space)
        try:
            held = load.idle(peer, count)
        finally:
            holder.stop()
        if held is None:
            console.print(f"{name}: the idle connections did not come")
        else:
            results.idle[name] = held
    if any(name.startswith(SAMPAN) for name in peers):
        results.heap = load.heap(min(count, load.most_of_one_process()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.proxy", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=0, help="default 5; 1 with --quick; 8 with --only")
    parser.add_argument(
        "--only",
        type=words,
        default=[],
        metavar="FORM,...",
        help='parts of names, as "asyncio 1,nginx"; peers come along',
    )
    parser.add_argument(
        "--what", type=words, default=[], metavar="WHAT,...", help=f"of {','.join(WHAT)} (with --only: kept,conn,bulk)"
    )
    parser.add_argument("--baseline", type=Path, help="another checkout of this tree: its asyncio relay beside ours")
    parser.add_argument("--idle", type=int, default=0, help=f"idle connections ({IDLE_COUNT:,}; quick {IDLE_QUICK:,})")
    parser.add_argument("--bar", type=float, default=STOLEN * 100, help="percent stolen up to which a slice is calm")
    parser.add_argument("--others", type=float, default=OTHERS * 100, help="percent other programs may use likewise")
    parser.add_argument("--patience", type=float, help="seconds that waiting and repeating may take in all")
    parser.add_argument("--quick", action="store_true", help="one round, 2,000 idle connections")
    options = parser.parse_args()
    found = forms(os.cpu_count() or 1, baseline=options.baseline is not None)
    try:
        options.forms = select(found, options.only)
    except ValueError as error:
        parser.error(str(error))
    if unknown := [word for word in options.what if word not in WHAT]:
        parser.error(f"--what: {', '.join(unknown)} is not among {', '.join(WHAT)}")
    if options.baseline is not None:
        options.baseline = options.baseline.resolve()
        if not (options.baseline / "proxy" / "__main__.py").is_file():
            parser.error(f"--baseline: {options.baseline} has no proxy/__main__.py: it must be a checkout of this tree")
    options.what = options.what or (["kept", "conn", "bulk"] if options.only else list(WHAT))
    options.rounds = options.rounds or (1 if options.quick else 8 if options.only else 5)
    options.idle = options.idle or (IDLE_QUICK if options.quick else IDLE_COUNT)
    if options.patience is None:
        options.patience = PATIENCE_QUICK if options.quick or options.only else PATIENCE
    return options


def main() -> None:
    options = arguments()
    install(("haproxy", "nginx", "wrk", "iperf3", "nft", "ip"), envoy=not options.only)
    enter()
    raise_limit(2 * options.idle + 1000)
    heading("service proxy", *versions())
    begun = time.monotonic()
    results = Results(options.forms)
    bar = Bar(options.bar / 100, options.others / 100)
    calm = Calm(bar, Patience(options.patience), own=own_ticks)
    cases = [case for what in options.what for case in WHAT[what] if case in CASES]
    with tempfile.TemporaryDirectory() as scratch:
        running = Forms(Path(scratch), options.baseline)
        try:
            running.start(options.forms)
            warm(running)
            measure(running.peers, results, calm, cases, options.rounds)
            if IDLE in options.what:
                hold(running.peers, results, options.idle)
        finally:
            running.stop()
    show.show(results)
    for line in (*show.verdicts(results, options.idle), *show.baselines(results), *calm.report()):
        console.print(line)
    console.print(f"{options.rounds} rounds, {time.monotonic() - begun:.0f} s in all; ~: not from calm slices")


if __name__ == "__main__":
    main()
