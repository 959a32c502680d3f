"""`wait`: until objects are as wanted."""

from __future__ import annotations

import time

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import kinds_and_names


@click.command(
    "wait",
    cls=Verb,
    examples="""
    sampan wait pod/web --for=condition=Ready
    sampan wait nodes --all --for=condition=Ready --timeout=2m
    sampan wait pods -l app=web --for=delete
    sampan wait rc/web --for=jsonpath='{.status.readyReplicas}'=3
    """,
)
@click.argument(
    "what", nargs=-1, required=True, metavar="KIND/NAME... | KIND [NAME...]", shell_complete=kinds_and_names
)
@click.option(
    "--for", "wanted_text", required=True, metavar="WHAT",
    help="condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete.",
)  # fmt: skip
@click.option(
    "--timeout", type=DURATION, default="30s", show_default=True, metavar="DURATION",
    help="Give up after this time; 0 looks once, a negative one waits a week.",
)  # fmt: skip
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Those with these labels.")
@click.option("--field-selector", "fields", default="", metavar="FIELDS", help="Those with these fields.")
@click.option("--all", "every", is_flag=True, help="Every one of the kind in the namespace.")
@pass_settings
def wait(
    settings: Settings,
    what: tuple[str, ...],
    wanted_text: str,
    timeout: float,
    labels: str,
    fields: str,
    every: bool,
) -> None:
    """Wait until objects are as you want them; the exit code is 1 when the time is up."""
    from cli import conditions, failure, targets, waiting
    from cli.picking import pick
    from common.errors import BadRequest, NotFound

    try:
        wanted = conditions.parse(wanted_text)
    except ValueError as error:
        raise BadRequest(f"--for: {error}") from None
    seconds = 7 * 86400.0 if timeout < 0 else timeout
    until = time.monotonic() + seconds
    failed = False
    with settings.connect() as client:
        if labels or fields or every:
            found = pick(client, what, settings.namespace, labels=labels, fields=fields, every=every)
            if not found and not wanted.gone:
                raise NotFound("no matching resources found")
            chosen = [(kind, obj.metadata.name) for kind, obj in found]
        else:
            chosen = [(target.kind, name) for target in targets.parse(what) for name in target.names]
            if not chosen:
                raise BadRequest("say which objects: names, -l LABELS, or --all")
        for kind, name in chosen:
            try:
                waiting.until_met(client, kind, settings.namespace, name, wanted, until, timeout=seconds)
            except (waiting.TimedOut, NotFound) as error:
                failed = True
                failure.report(error)
                continue
            done = {"delete": "deleted", "create": "created"}.get(wanted.text, "condition met")
            click.echo(f"{targets.shown(kind, name)} {done}")
    if failed:
        raise failure.Failed
