"""`describe`: everything about objects, with their events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from cli.client import Client
    from common.kinds import Kind


@click.command(
    "describe",
    cls=Verb,
    examples="""
    sampan describe pod web
    sampan describe node/node-1
    sampan describe pods -l app=web
    """,
)
@click.argument("what", nargs=-1, metavar="KIND [NAME...] | KIND/NAME...", shell_complete=kinds_and_names)
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Those with these labels.")
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("--show-events/--no-show-events", default=True, show_default=True, help="The events at the end.")
@pass_settings
def describe(settings: Settings, what: tuple[str, ...], labels: str, all_namespaces: bool, show_events: bool) -> None:
    """Show everything about objects: for a pending pod also why each node was not chosen."""
    from cli import failure, targets
    from common.errors import BadRequest, NotFound

    namespace = "" if all_namespaces else settings.namespace
    failed = False
    pages: list[str] = []
    with settings.connect() as client:
        found: list[tuple[Kind, Any]] = []
        for target in targets.parse(what):
            if target.names and (labels or all_namespaces):
                raise BadRequest("objects are chosen by name, or by -l and -A, not both")
            if not target.names:
                found += [(target.kind, obj) for obj in client.list(target.kind, namespace, labels=labels).items]
            for name in target.names:
                try:
                    found.append((target.kind, client.get(target.kind, namespace, name)))
                except NotFound as error:
                    failed = True
                    failure.report(error)
        pages = [_page(client, kind, obj, show_events) for kind, obj in found]
    if pages:
        click.echo("\n\n".join(pages), nl=False)
    elif not failed:
        click.echo(f"No resources found{f' in {namespace} namespace' if namespace else ''}.", err=True)
    if failed:
        raise failure.Failed


def _page(client: Client, kind: Kind, obj: Any, show_events: bool) -> str:
    from cli.describe import registry
    from common import kinds

    query = registry.query(kind.kind, obj)
    related = (
        client.list(kinds.by_kind(query.kind), query.namespace, labels=query.labels, fields=query.fields).items
        if query
        else []
    )
    events: list[Any] = []
    if show_events and kind is not kinds.EVENT:
        fields = f"involvedObject.kind={kind.kind},involvedObject.name={obj.metadata.name}"
        # An object of the same name that was there before has its own events.
        events = [
            event
            for event in client.list(kinds.EVENT, obj.metadata.namespace, fields=fields).items
            if event.involvedObject.uid in ("", obj.metadata.uid)
        ]
    return registry.draw(kind.kind, obj, related, events, time.time())
