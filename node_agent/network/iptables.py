"""The agent's own iptables chains: pods' packets are let through, masqueraded when they leave the cluster, and fit.

Nothing but the chains SAMPAN-… and the jumps to them is ever changed. Everything here may be called again and again.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from common.errors import Unavailable

FORWARD = "SAMPAN-FORWARD"
POSTROUTING = "SAMPAN-POSTROUTING"
SEGMENTS = "SAMPAN-SEGMENTS"
# The bit that the proxy's nftables mode sets in the mark of the connections it translates (proxy.nft.skeleton.MARK).
SERVICE_MARK = "0x20000000/0x20000000"
# Docker's hook for rules that come before its own; where it exists, FORWARD's end is Docker's DROP policy.
DOCKER_USER = "DOCKER-USER"
# Seconds to wait for the lock that all iptables processes share.
_WAIT = ("-w", "5")
_TIMEOUT = 15.0


@dataclass(frozen=True)
class Chain:
    """One chain of ours: its rules in order, and the chain that jumps to it: the first of `parents` that exists."""

    table: str
    name: str
    rules: tuple[str, ...]
    parents: tuple[str, ...]
    # Without it most things work: failing is only a problem.
    needed: bool = True


@dataclass(frozen=True)
class Present:
    """A chain of ours as it is: its rules, and the chains that jump to it."""

    table: str
    chain: str
    parents: tuple[str, ...]
    rules: tuple[str, ...]


# Where a packet leaves by a link that carries less than the sender's own (a tunnel, a smaller link), TCP is told at its
# start what fits, whatever becomes of the ICMP that says so later.
_CLAMP = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"


def chains(pod_cidr: str, cluster_cidr: str, service_cidr: str) -> tuple[Chain, ...]:
    """Our chains for a node. Rules are written as `iptables -S` prints them, so that they can be compared."""
    return (
        Chain(
            "filter",
            FORWARD,
            (
                f"-A {FORWARD} -s {pod_cidr} -j ACCEPT",
                f"-A {FORWARD} -d {pod_cidr} -j ACCEPT",
                # A client outside on its way through this node to an endpoint on another, and back.
                f"-A {FORWARD} -m connmark --mark {SERVICE_MARK} -j ACCEPT",
            ),
            (DOCKER_USER, "FORWARD"),
        ),
        Chain(
            "nat",
            POSTROUTING,
            (
                f"-A {POSTROUTING} -d {cluster_cidr} -j RETURN",
                f"-A {POSTROUTING} -d {service_cidr} -j RETURN",
                f"-A {POSTROUTING} -s {pod_cidr} -j MASQUERADE",
            ),
            ("POSTROUTING",),
        ),
        Chain(
            "mangle",
            SEGMENTS,
            (f"-A {SEGMENTS} -s {pod_cidr} {_CLAMP}", f"-A {SEGMENTS} -d {pod_cidr} {_CLAMP}"),
            ("FORWARD",),
            needed=False,
        ),
    )


def available() -> bool:
    """Whether this machine or container has iptables at all."""
    return shutil.which("iptables") is not None and shutil.which("iptables-restore") is not None


async def ensure(wanted: tuple[Chain, ...]) -> tuple[bool, list[str]]:
    """Makes the chains what they shall be; whether something had to be changed, and what could not and need not be.

    Raises Unavailable for a chain that is needed.
    """
    changed, problems = False, []
    for chain in wanted:
        try:
            changed = await _ensure(chain) or changed
        except Unavailable as error:
            if chain.needed:
                raise
            problems.append(str(error))
    return changed, problems


async def _ensure(chain: Chain) -> bool:
    changed = False
    present = await _rules(chain.table, chain.name)
    if present != chain.rules:
        text = "\n".join((f"*{chain.table}", f":{chain.name} - [0:0]", *chain.rules, "COMMIT", ""))
        await _run("iptables-restore", *_WAIT, "--noflush", stdin=text)
        changed = True
    for parent in chain.parents:
        rules = await _rules(chain.table, parent)
        if rules is None:
            continue
        if f"-A {parent} -j {chain.name}" not in rules:
            await _run("iptables", *_WAIT, "-t", chain.table, "-I", parent, "1", "-j", chain.name)
            changed = True
        break
    return changed


async def present(wanted: tuple[Chain, ...]) -> list[Present]:
    """Those of the chains that are there. Raises Unavailable."""
    found = []
    for chain in wanted:
        rules = await _rules(chain.table, chain.name)
        if rules is None:
            continue
        jump = f"-j {chain.name}"
        parents = [p for p in chain.parents if f"-A {p} {jump}" in (await _rules(chain.table, p) or ())]
        found.append(Present(chain.table, chain.name, tuple(parents), rules))
    return found


async def remove(wanted: tuple[Chain, ...]) -> None:
    """Takes away the jumps and the chains; nothing happens for what is gone. Raises Unavailable."""
    for chain in wanted:
        for parent in chain.parents:
            rules = await _rules(chain.table, parent) or ()
            for _ in range(rules.count(f"-A {parent} -j {chain.name}")):
                await _run("iptables", *_WAIT, "-t", chain.table, "-D", parent, "-j", chain.name)
        if await _rules(chain.table, chain.name) is not None:
            await _run("iptables", *_WAIT, "-t", chain.table, "-F", chain.name)
            await _run("iptables", *_WAIT, "-t", chain.table, "-X", chain.name)


async def _rules(table: str, chain: str) -> tuple[str, ...] | None:
    """The chain's rules as -S prints them; None when there is no such chain."""
    code, out, error = await _call("iptables", *_WAIT, "-t", table, "-S", chain)
    if code:
        if any(text in error for text in ("No chain", "does not exist", "doesn't exist", "incompatible")):
            return None
        raise Unavailable(f"iptables -t {table} -S {chain}: {error.strip()}")
    return tuple(line.strip() for line in out.splitlines() if line.startswith("-A "))


async def _run(*command: str, stdin: str = "") -> None:
    code, _, error = await _call(*command, stdin=stdin)
    if code:
        raise Unavailable(f"{' '.join(command)}: {error.strip()}")


async def _call(*command: str, stdin: str = "") -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(_TIMEOUT):
            out, err = await process.communicate(stdin.encode() if stdin else None)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise Unavailable(f"{' '.join(command)}: no answer within {_TIMEOUT:.0f} s") from error
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
