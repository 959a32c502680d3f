"""`get`: objects as a table, as YAML or JSON, by name or through a JSONPath; once or as they change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from cli.client import Client, Listing
    from cli.screen import Table
    from common.kinds import Kind

_FORMATS = ("wide", "yaml", "json", "name")


@dataclass(frozen=True)
class _View:
    """How to show what was found. `path` is the template of -o jsonpath=…"""

    output: str
    path: str
    headings: bool
    labels: bool
    label_columns: tuple[str, ...]
    namespaces: bool
    prefixed: bool

    def table(self, kind: Kind) -> Table:
        from cli.columns.registry import columns
        from cli.screen import Table

        return Table(
            columns(
                kind.kind,
                wide=self.output == "wide",
                namespaces=self.namespaces and kind.namespaced,
                label_columns=self.label_columns,
                labels=self.labels,
                prefix=f"{kind.singular}{'.' + kind.group if kind.group else ''}/" if self.prefixed else "",
            ),
            headings=self.headings,
        )


@click.command(
    "get",
    cls=Verb,
    examples="""
    sampan get pods
    sampan get pods -o wide -l app=web
    sampan get rc,svc
    sampan get rc/web -o yaml
    sampan get pods -A --field-selector spec.nodeName=node-1
    sampan get pods -w
    sampan get pod web -o jsonpath='{.status.podIP}'
    sampan get all
    """,
)
@click.argument("what", nargs=-1, metavar="KIND[,KIND] [NAME...] | KIND/NAME...", shell_complete=kinds_and_names)
@click.option("-o", "--output", default="", metavar="FORMAT", help="wide, yaml, json, name or jsonpath=TEMPLATE.")
@click.option("-w", "--watch", is_flag=True, help="Then go on and show every change.")
@click.option("--watch-only", is_flag=True, help="Show changes only.")
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="For instance app=web,tier!=test.")
@click.option("--field-selector", "fields", default="", metavar="FIELDS", help="For instance status.phase=Running.")
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("--show-labels", is_flag=True, help="Labels in a last column.")
@click.option("-L", "--label-columns", multiple=True, metavar="LABEL", help="A label in a column of its own.")
@click.option("--no-headers", is_flag=True, help="Only the rows of the table.")
@click.option("--sort-by", default="", metavar="PATH", help="Order by a field, for instance .metadata.name.")
@click.option("--ignore-not-found", is_flag=True, help="Nothing, and no error, for names that are not there.")
@pass_settings
def get(
    settings: Settings,
    what: tuple[str, ...],
    output: str,
    watch: bool,
    watch_only: bool,
    labels: str,
    fields: str,
    all_namespaces: bool,
    show_labels: bool,
    label_columns: tuple[str, ...],
    no_headers: bool,
    sort_by: str,
    ignore_not_found: bool,
) -> None:
    """Show objects.

    Names may be given for one kind (pods web db), or as KIND/NAME for several. `all` stands for pods,
    services and all controllers.
    """
    from cli import failure, targets
    from common.errors import BadRequest, NotFound

    form, path = _format(output)
    wanted = targets.parse(what)
    if any(target.names for target in wanted) and (labels or fields or all_namespaces):
        raise BadRequest("objects are chosen by name, or by -l, --field-selector and -A, not both")
    namespace = "" if all_namespaces else settings.namespace
    view = _View(form, path, not no_headers, show_labels, tuple(label_columns), all_namespaces, len(wanted) > 1)
    if watch or watch_only:
        if len(wanted) > 1 or len(wanted[0].names) > 1:
            raise BadRequest("one kind, or one object, can be watched at a time")
        if wanted[0].names:
            fields = f"metadata.name={wanted[0].names[0]}"
    failed = False
    found: list[tuple[Kind, Listing]] = []
    with settings.connect() as client:
        for target in wanted:
            from cli.client import Listing

            if not target.names or watch or watch_only:
                listing = client.list(target.kind, namespace, labels=labels, fields=fields)
                found.append((target.kind, Listing(_sorted(target.kind, listing.items, sort_by), listing.revision)))
                continue
            objects = []
            for name in target.names:
                try:
                    objects.append(client.get(target.kind, namespace, name))
                except NotFound as error:
                    if not ignore_not_found:
                        failed = True
                        failure.report(error)
            found.append((target.kind, Listing(_sorted(target.kind, objects, sort_by))))
        if watch or watch_only:
            if wanted[0].names and not found[0][1].items and not ignore_not_found:
                raise NotFound(f'{wanted[0].kind.resource} "{wanted[0].names[0]}" not found')
            _watch(client, *found[0], namespace, labels, fields, view, skip_first=watch_only)
            return
    single = sum(len(target.names) for target in wanted) == 1
    _show(found, view, single=single, scope=namespace, quiet=failed or ignore_not_found)
    if failed:
        raise failure.Failed


def _format(output: str) -> tuple[str, str]:
    """The format and, for jsonpath, its template."""
    from cli import jsonpath
    from common.errors import BadRequest

    if output.startswith("jsonpath="):
        template = output.removeprefix("jsonpath=")
        try:
            jsonpath.render(template, {})
        except jsonpath.PathError as error:
            raise BadRequest(f"-o {output}: {error}") from None
        return "jsonpath", template
    if output and output not in _FORMATS:
        raise BadRequest(f'-o "{output}" is not a format: write one of {", ".join(_FORMATS)} or jsonpath=TEMPLATE')
    return output, ""


def _sorted(kind: Kind, objects: Sequence[Any], path: str) -> list[Any]:
    from cli import jsonpath
    from cli.columns.events import order
    from common.errors import BadRequest
    from common.manifest import to_manifest

    if not path:
        return sorted(objects, key=order) if kind.kind == "Event" else list(objects)
    try:
        keyed = [(jsonpath.find(path, to_manifest(obj)), obj) for obj in objects]
    except jsonpath.PathError as error:
        raise BadRequest(f"--sort-by: {error}") from None

    # Numbers by size, everything else as text; objects without the field first.
    def rank(value: Any) -> tuple[int, float, str]:
        return (0, value, "") if isinstance(value, int | float) else (1, 0, jsonpath.text_of(value))

    return [obj for _, obj in sorted(keyed, key=lambda pair: [rank(value) for value in pair[0]])]


def _show(found: list[tuple[Kind, Listing]], view: _View, *, single: bool, scope: str, quiet: bool) -> None:
    from cli.targets import shown

    objects = [(kind, obj) for kind, listing in found for obj in listing.items]
    if view.output in ("yaml", "json", "jsonpath"):
        if objects or not single:
            _documents([obj for _, obj in objects], view, single)
        return
    if not objects:
        if not quiet:
            namespaced = any(kind.namespaced for kind, _ in found)
            click.echo(f"No resources found{f' in {scope} namespace' if scope and namespaced else ''}.", err=True)
        return
    if view.output == "name":
        for kind, obj in objects:
            click.echo(shown(kind, obj.metadata.name))
        return
    first = True
    for kind, listing in found:
        if listing.items:
            if not first:
                click.echo()
            first = False
            view.table(kind).show(listing.items, time.time())


def _documents(objects: Sequence[Any], view: _View, single: bool) -> None:
    from cli import jsonpath
    from cli import output as text
    from common.manifest import to_manifest

    manifests = [to_manifest(obj) for obj in objects]
    whole = manifests[0] if single else text.as_list(manifests)
    if view.output == "jsonpath":
        click.echo(jsonpath.render(view.path, whole), nl=False)
    else:
        click.echo(text.to_yaml(whole) if view.output == "yaml" else text.to_json(whole), nl=False)


def _watch(
    client: Client,
    kind: Kind,
    start: Listing,
    namespace: str,
    labels: str,
    fields: str,
    view: _View,
    *,
    skip_first: bool,
) -> None:
    from cli import follow
    from cli import output as text
    from cli.targets import shown
    from common.manifest import to_manifest

    table = view.table(kind)

    def show(objects: Sequence[Any]) -> None:
        if view.output in ("", "wide"):
            table.show(objects, time.time())
            return
        for obj in objects:
            if view.output == "name":
                click.echo(shown(kind, obj.metadata.name))
            elif view.output == "yaml":
                click.echo(f"---\n{text.to_yaml(to_manifest(obj))}", nl=False)
            elif view.output == "json":
                click.echo(text.to_json(to_manifest(obj)), nl=False)
            else:
                from cli import jsonpath

                click.echo(jsonpath.render(view.path, to_manifest(obj)))

    if start.items and not skip_first:
        show(start.items)
    for change in follow.changes(client, kind, namespace, start, labels=labels, fields=fields):
        show([change.obj])
