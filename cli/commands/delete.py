"""`delete`: objects by name, selector or manifest, and waiting until they are gone."""

from __future__ import annotations

from typing import Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import kinds_and_names


@click.command(
    "delete",
    cls=Verb,
    examples="""
    sampan delete pod web
    sampan delete rc/web svc/web
    sampan delete -f web.yaml
    sampan delete pods -l app=web
    sampan delete pod web --now
    sampan delete rc web --cascade=orphan
    """,
)
@click.argument("what", nargs=-1, metavar="[KIND NAME... | KIND/NAME...]", shell_complete=kinds_and_names)
@click.option(
    "-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-", type=click.Path(allow_dash=True),
    help="Delete what these manifests name.",
)  # fmt: skip
@click.option("-R", "--recursive", is_flag=True, help="Look into folders below the given ones, too.")
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Those with these labels.")
@click.option("--field-selector", "fields", default="", metavar="FIELDS", help="Those with these fields.")
@click.option("--all", "every", is_flag=True, help="Every one of the kind in the namespace.")
@click.option(
    "--grace-period", type=int, default=-1, metavar="SECONDS",
    help="How long a pod may take to stop (default: what its manifest says).",
)  # fmt: skip
@click.option("--now", is_flag=True, help="Stop quickly: --grace-period=1.")
@click.option("--force", is_flag=True, help="Do not wait for the node: the record goes at once.")
@click.option(
    "--cascade", type=click.Choice(["background", "foreground", "orphan"]), default="background", show_default=True,
    help="What becomes of what it owns: goes afterwards, goes first, stays.",
)  # fmt: skip
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when the objects are gone.")
@click.option("--timeout", type=DURATION, default=0.0, metavar="DURATION", help="Wait at most this long.")
@click.option("--ignore-not-found", is_flag=True, help="No error for what is not there.")
@click.option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True)
@click.option("-o", "--output", type=click.Choice(["name"]), help="Print names only.")
@pass_settings
def delete(
    settings: Settings,
    what: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    labels: str,
    fields: str,
    every: bool,
    grace_period: int,
    now: bool,
    force: bool,
    cascade: str,
    wait: bool,
    timeout: float,
    ignore_not_found: bool,
    dry_run: str,
    output: str | None,
) -> None:
    """Delete objects and wait until they are gone.

    A pod gets its grace period to stop; --force takes the record away at once, and its containers are then
    stopped as soon as the node hears of it.
    """
    from cli import failure, waiting
    from cli.targets import shown
    from common.errors import NotFound

    grace = _grace(grace_period, now, force)
    if force:
        failure.warn("the record goes at once: the containers may go on running on a node that cannot be reached")
    until = waiting.deadline(timeout)
    going: dict[tuple[Any, str], dict[str, str]] = {}
    failed = False
    with settings.connect() as client:
        for kind, namespace, name, uid in _chosen(
            settings, client, what, files, recursive, labels, fields, every, ignore_not_found
        ):
            word = {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]
            try:
                gone = True
                if dry_run != "client":
                    obj, gone = client.delete(
                        kind, namespace, name, grace=grace, propagation=cascade.capitalize(), uid=uid,
                        dry_run=dry_run == "server",
                    )  # fmt: skip
                    uid = obj.metadata.uid
            except NotFound as error:
                if not ignore_not_found:
                    failed = True
                    failure.report(error)
                continue
            if output == "name":
                click.echo(shown(kind, name))
            else:
                click.echo(f'{kind.singular} "{name}" {"force deleted" if force else "deleted"}{word}')
            if not gone and dry_run == "none":
                going.setdefault((kind, namespace), {})[name] = uid
        if wait:
            for (kind, namespace), uids in going.items():
                waiting.until_gone(client, kind, namespace, uids, until, timeout=timeout)
    if failed:
        raise failure.Failed


def _grace(grace_period: int, now: bool, force: bool) -> int | None:
    from common.errors import BadRequest

    if now and (force or grace_period >= 0):
        raise BadRequest("--now is --grace-period=1: leave the other one out")
    if force:
        if grace_period > 0:
            raise BadRequest("--force is --grace-period=0: leave the other one out")
        return 0
    if grace_period == 0:
        raise BadRequest("--grace-period=0 takes the record away at once: say --force, too, if you mean it, or --now")
    return 1 if now else grace_period if grace_period > 0 else None


def _chosen(
    settings: Settings,
    client: Any,
    what: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    labels: str,
    fields: str,
    every: bool,
    ignore_not_found: bool,
) -> list[tuple[Any, str, str, str]]:
    """Kind, namespace, name and, where it is known, uid of each object to delete."""
    from cli import manifests, targets
    from cli.picking import pick
    from common.errors import BadRequest

    if files and (what or labels or fields or every):
        raise BadRequest("delete either what files name (-f) or what the command line names, not both")
    if files:
        items = manifests.load(files, recursive=recursive)
        if settings.namespace_given:
            manifests.check_namespaces(items, settings.namespace)
        # Last made, first gone: a namespace after what is in it.
        return [(item.kind, item.namespace(settings.namespace), item.name, "") for item in reversed(items)]
    if labels or fields or every:
        found = pick(client, what, settings.namespace, labels=labels, fields=fields, every=every)
        if not found and not ignore_not_found:
            click.echo("No resources found.", err=True)
        return [(kind, obj.metadata.namespace, obj.metadata.name, obj.metadata.uid) for kind, obj in found]
    chosen = targets.parse(what)
    for target in chosen:
        if not target.names:
            raise BadRequest(
                f"say which {target.kind.plural}: names, -l LABELS, or --all for every one in the namespace"
            )
    return [(target.kind, settings.namespace, name, "") for target in chosen for name in target.names]
