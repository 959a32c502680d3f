"""`top`: what nodes and pods use now, as the nodes measure it when asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from cli.app import Family, Settings, pass_settings
from cli.completing import nodes, pods

if TYPE_CHECKING:
    from cli.client import Client

# Nodes asked at the same time.
_AT_ONCE = 16

_NODE_EXAMPLES = """
    sampan top nodes
    sampan top nodes --sort-by=memory
    """
_POD_EXAMPLES = """
    sampan top pods -l app=web
    sampan top pods -A --containers --sort-by=cpu
    """
# As people write them.
_OTHER_NAMES = {"node": "nodes", "no": "nodes", "pod": "pods", "po": "pods"}
_SORT = click.option("--sort-by", type=click.Choice(["cpu", "memory"]), help="The largest first (default: by name).")
_LABELS = click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Only those with these labels.")
_PLAIN = click.option("--no-headers", is_flag=True, help="Only the rows.")


class _Top(Family):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _OTHER_NAMES.get(cmd_name, cmd_name))


@click.group("top", cls=_Top, examples=_NODE_EXAMPLES + _POD_EXAMPLES.lstrip("\n"))
def top() -> None:
    """Show the CPU and memory that nodes and pods use now.

    The nodes measure when they are asked, over at least a second. A node that does not answer is named on stderr within
    seconds; the rest is shown all the same, and the exit code is 1.
    """


@top.command("nodes", examples=_NODE_EXAMPLES)
@click.argument("names", nargs=-1, metavar="[NODE]...", shell_complete=nodes)
@_LABELS
@_SORT
@_PLAIN
@pass_settings
def top_nodes(settings: Settings, names: tuple[str, ...], labels: str, sort_by: str | None, no_headers: bool) -> None:
    """Show what nodes use, all that runs on them included, and its share of what they have for pods."""
    from cli import failure, screen, usage
    from common import kinds
    from common.errors import BadRequest

    if names and labels:
        raise BadRequest("nodes are chosen by name or by -l, not both")
    with settings.connect() as client:
        kind = kinds.NODE
        found = [client.get(kind, "", name) for name in names] or client.list(kind, "", labels=labels).items
        answers, failed = _ask(client, (node.metadata.name for node in found))
    screen.rows(usage.NODE_HEADINGS, usage.node_rows(found, answers, sort_by), show_headings=not no_headers)
    if failed:
        raise failure.Failed


@top.command("pods", examples=_POD_EXAMPLES)
@click.argument("names", nargs=-1, metavar="[POD]...", shell_complete=pods)
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("--containers", is_flag=True, help="A row for each container.")
@_LABELS
@_SORT
@_PLAIN
@pass_settings
def top_pods(
    settings: Settings,
    names: tuple[str, ...],
    all_namespaces: bool,
    containers: bool,
    labels: str,
    sort_by: str | None,
    no_headers: bool,
) -> None:
    """Show what running pods use: the sum of their containers. Memory is without what the kernel caches of files."""
    from cli import failure, screen, usage
    from common import kinds
    from common.errors import BadRequest

    if names and (labels or all_namespaces):
        raise BadRequest("pods are chosen by name, or by -l and -A, not both")
    namespace = "" if all_namespaces else settings.namespace
    with settings.connect() as client:
        if names:
            found: Sequence[Any] = [client.get(kinds.POD, namespace, name) for name in names]
        else:
            found = client.list(kinds.POD, namespace, labels=labels).items
        running = [pod for pod in found if pod.spec.nodeName and pod.status.phase == "Running"]
        answers, failed = _ask(client, {pod.spec.nodeName for pod in running})
    rows = usage.pod_rows(running, answers, sort_by, containers=containers, namespaces=all_namespaces)
    if not rows and not failed:
        click.echo("No running pods." if all_namespaces else f"No running pods in namespace {namespace}.", err=True)
        return
    headings = usage.pod_headings(containers=containers, namespaces=all_namespaces)
    screen.rows(headings, rows, show_headings=not no_headers)
    if failed:
        raise failure.Failed


def _ask(client: Client, names: Iterable[str]) -> tuple[dict[str, Any], bool]:
    """Every node's answer by name, and whether some did not answer (which is told)."""
    from common.errors import SampanError

    def ask(node: str) -> tuple[str, Any]:
        try:
            return node, client.node_query(node, "usage")
        except SampanError as error:
            return node, error

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = dict(pool.map(ask, sorted(names)))
    wrong = {node: error for node, error in answers.items() if isinstance(error, SampanError)}
    for node, error in wrong.items():
        click.echo(f"error: node/{node}: {error}", err=True)
    return {node: answer for node, answer in answers.items() if node not in wrong}, bool(wrong)
