"""`proxy`: a look at what the nodes' service proxies do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from cli.app import Family, Settings, pass_settings
from cli.completing import nodes

if TYPE_CHECKING:
    from cli.client import Client
    from common.errors import SampanError

# Nodes asked at the same time.
_AT_ONCE = 16

_STATUS_EXAMPLES = """
    sampan proxy status
    sampan proxy status node1
    sampan proxy status node1 --service default/web
    sampan proxy status -o yaml
    """


@click.group("proxy", cls=Family, examples=_STATUS_EXAMPLES)
def proxy() -> None:
    """Look at the nodes' service proxies: what they serve, to whom, and what goes wrong."""


@proxy.command("status", examples=_STATUS_EXAMPLES)
@click.argument("name", metavar="[NODE]", required=False, shell_complete=nodes)
@click.option("--service", "service", default="", metavar="[NAMESPACE/]NAME", help="Only this service (with NODE).")
@click.option("--no-headers", is_flag=True, help="Only the rows of the table (without NODE).")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The whole answers.")
@pass_settings
def status(settings: Settings, name: str | None, service: str, no_headers: bool, output: str | None) -> None:
    """Show what the service proxies do: all nodes in a row each, or one node with listeners and endpoints.

    OPEN and CONNECTIONS are established now, ACCEPTED and SERVED were since the proxy's workers began. FAILURES are
    connects that failed; with a retry the client does not notice. A node that does not answer is told within seconds.
    """
    from cli import failure

    with settings.connect() as client:
        if name:
            node = name.removeprefix("node/").removeprefix("nodes/")
            answer = client.node_query(node, "proxy")
            if output:
                _print(answer, output)
            else:
                _one(node, answer, service if "/" in service or not service else f"{settings.namespace}/{service}")
            return
        if service:
            raise click.UsageError("--service needs a NODE: sampan proxy status NODE --service NAME")
        answers = _all(client)
    if output:
        items = [answer if error is None else {"node": node, "error": str(error)} for node, answer, error in answers]
        _print({"items": items}, output)
    else:
        _table(answers, headings=not no_headers)
    if any(error is not None for _, _, error in answers):
        raise failure.Failed


Answer = tuple[str, Mapping[str, Any], "SampanError | None"]


def _all(client: Client) -> list[Answer]:
    from common import kinds
    from common.errors import SampanError

    def ask(node: str) -> Answer:
        try:
            return node, client.node_query(node, "proxy"), None
        except SampanError as error:
            return node, {}, error

    names = [node.metadata.name for node in client.list(kinds.by_kind("Node"), "").items]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(ask, names))


def _print(answer: Mapping[str, Any], output: str) -> None:
    from cli.output import to_json, to_yaml

    click.echo(to_json(answer) if output == "json" else to_yaml(answer), nl=False)


def _table(answers: Sequence[Answer], *, headings: bool) -> None:
    from cli import screen
    from cli.columns import proxy as columns

    if not answers:
        click.echo("No nodes. `sampan token create` prints the line that joins one.", err=True)
        return
    now = time.time()
    rows = [
        columns.node_row(node, answer, now) if error is None else columns.silent_row(node, str(error))
        for node, answer, error in answers
    ]
    screen.rows(columns.NODE_HEADINGS, rows, show_headings=headings)


def _one(node: str, answer: Mapping[str, Any], service: str) -> None:
    from cli import screen
    from cli.columns import proxy as columns

    lines = columns.head(node, answer, time.time())
    width = max(len(name) for name, _ in lines) + 1
    for name, value in lines:
        click.echo(f"{name + ':':<{width}}  {value}".rstrip())
    for title, headings, rows in (
        ("Listeners", columns.LISTENER_HEADINGS, list(columns.listener_rows(answer, service))),
        ("Endpoints", columns.ENDPOINT_HEADINGS, list(columns.endpoint_rows(answer, service))),
        ("In the kernel", columns.KERNEL_HEADINGS, list(columns.kernel_rows(answer, service))),
    ):
        if rows:
            click.echo(f"\n{title}:")
            screen.rows(headings, rows)
        elif title != "In the kernel":
            click.echo(f"\n{title}:  <none>")
