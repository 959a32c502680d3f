"""`node`: a look at one node from inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from cli.app import Family, Settings, pass_settings
from cli.completing import nodes

Rows = Callable[[Mapping[str, Any]], Sequence[str]]

# Title, key of the list in the node's answer, headings, and a row of an item.
_TABLES: tuple[tuple[str, str, tuple[str, ...], Rows], ...] = (
    (
        "Peers",
        "peers",
        ("NODE", "ADDRESS", "PODS", "WAY", "ASKED", "DEVICE"),
        lambda one: (one["name"], one["address"], one["podCIDR"], one["way"], one["asked"] or "-", one["device"]),
    ),
    (
        "Links",
        "links",
        ("NAME", "KIND", "VNI", "PORT", "MAC", "MTU", "STATE"),
        lambda one: (
            *(str(one[key]) for key in ("name", "kind", "vni", "port", "mac", "mtu")),
            "up" if one["up"] else "down",
        ),
    ),
    ("Addresses", "deviceAddresses", ("DEVICE", "ADDRESS"), lambda one: (one["device"], one["address"])),
    (
        "Routes",
        "routes",
        ("KIND", "DESTINATION", "VIA", "DEVICE", "SOURCE"),
        lambda one: tuple(one[key] or "-" for key in ("kind", "destination", "via", "device", "source")),
    ),
    ("Tunnel forwarding", "forwards", ("MAC", "NODE"), lambda one: (one["mac"], one["address"])),
    ("Tunnel neighbours", "neighbors", ("ADDRESS", "MAC"), lambda one: (one["address"], one["mac"])),
    (
        "iptables chains",
        "chains",
        ("TABLE", "CHAIN", "FROM", "RULE"),
        lambda one: (one["table"], one["chain"], one["from"], one["rule"]),
    ),
    (
        "Kernel settings",
        "settings",
        ("NAME", "NOW", "BEFORE"),
        lambda one: (one["name"], one["now"] or "gone", one["before"]),
    ),
)


@click.group(
    "node",
    cls=Family,
    examples="""
    sampan node network node1
    sampan node network node1 -o json
    """,
)
def node() -> None:
    """Look at one node from inside: what its agent has set up and knows."""


@node.command(
    "network",
    examples="""
    sampan node network node1
    sampan node network node1 -o json
    """,
)
@click.argument("name", metavar="NODE", shell_complete=nodes)
@click.option("-o", "--output", type=click.Choice(["json"]), help="The whole answer as JSON.")
@pass_settings
def network(settings: Settings, name: str, output: str | None) -> None:
    """Show everything that a node's agent has set up in the machine's network.

    That is all of it: what is listed here is what `sampan-node leave` removes again.
    """
    with settings.connect() as client:
        answer = client.node_query(name.removeprefix("node/").removeprefix("nodes/"), "network")
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    _head(answer)
    for title, key, headings, row in _TABLES:
        items = answer.get(key, ())
        _table(title, headings, [row(item) for item in (_rules(items) if key == "chains" else items)])
    for problem in answer.get("problems", ()):
        click.echo(f"\nProblem: {problem}", nl=False)
    if answer.get("problems"):
        click.echo()


def _rules(chains: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, str]]:
    """One item a rule; `from` is the chain that jumps to it."""
    for chain in chains:
        for rule in chain["rules"]:
            text = rule.removeprefix(f"-A {chain['chain']} ")
            yield {
                "table": chain["table"],
                "chain": chain["chain"],
                "from": ",".join(chain["parents"]) or "nowhere",
                "rule": text,
            }


def _head(answer: Mapping[str, Any]) -> None:
    pods, ranges = answer.get("podNetwork", {}), answer.get("ranges", {})
    lines = (
        ("Node", answer.get("node", "")),
        ("Address", answer.get("address", "")),
        ("All addresses", ", ".join(answer.get("addresses", ()))),
        ("Docker network", pods.get("name", "")),
        ("Pods", f"{pods.get('subnet', '')} through {pods.get('gateway', '')} on {pods.get('device', '')}"),
        ("MTU of pods", pods.get("options", {}).get("com.docker.network.driver.mtu", "")),
        ("Cluster", f"pods {ranges.get('cluster', '')}, services {ranges.get('services', '')}"),
    )
    width = max(len(name) for name, _ in lines) + 1
    for name, value in lines:
        click.echo(f"{name + ':':<{width}}  {value}".rstrip())


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from cli import screen

    if not rows:
        return
    click.echo(f"\n{title}:")
    screen.rows(headings, rows)
