"""`diff`: what applying manifest files would change."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.options import FILES, RECURSIVE

if TYPE_CHECKING:
    from common.kinds import Kind


DIFFERENT = 1
FAILED = 2


@click.command(
    "diff",
    cls=Verb,
    examples="""
    sampan diff -f web.yaml
    sampan diff -f examples/ -R
    """,
)
@FILES
@RECURSIVE
@pass_settings
def diff(settings: Settings, files: tuple[str, ...], recursive: bool) -> None:
    """Show what `apply` would change, line by line; nothing is stored.

    The master itself works out the result, with its defaults. The exit code is 0 when nothing would change, 1 when
    something would, and 2 when it could not be found out.
    """
    from cli import failure, manifests
    from common.errors import SampanError, Unavailable

    different = failed = False
    try:
        items = manifests.load(files, recursive=recursive)
        if settings.namespace_given:
            manifests.check_namespaces(items, settings.namespace)
        with settings.connect() as client:
            for item in items:
                namespace = item.namespace(settings.namespace)
                try:
                    live = client.find(item.kind, namespace, item.name)
                    merged = client.apply(item.text, namespace, dry_run=True).obj
                except Unavailable:
                    raise
                except SampanError as error:
                    failed = True
                    failure.report(SampanError(f"{item.source}: {failure.message(error)}"))
                    continue
                where = ".".join(filter(None, (item.kind.resource, namespace, item.name)))
                old, new = _document(live), _document(merged)
                _mask(item.kind, old, new)
                lines = list(difflib.unified_diff(_lines(old), _lines(new), f"live/{where}", f"merged/{where}"))
                different = different or bool(lines)
                _show(lines)
    except (SampanError, OSError) as error:
        failure.report(error)
        raise click.exceptions.Exit(FAILED) from None
    if failed or different:
        raise click.exceptions.Exit(FAILED if failed else DIFFERENT)


def _document(obj: Any | None) -> dict[str, Any]:
    """What a user may write of the object; empty for one that is not there."""
    from cli.prune import LAST_APPLIED
    from common import manifest

    if obj is None:
        return {}
    document = manifest.to_manifest(obj)
    document.pop("status", None)
    metadata = document["metadata"]
    for field in ("resourceVersion", "generation", "uid", "creationTimestamp"):
        metadata.pop(field, None)
    metadata.get("annotations", {}).pop(LAST_APPLIED, None)
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    return document


def _mask(kind: Kind, old: dict[str, Any], new: dict[str, Any]) -> None:
    """A secret's values are not shown, only whether they change."""
    from common.kinds import SECRET

    if kind is not SECRET:
        return
    before, after = dict(old.get("data", {})), dict(new.get("data", {}))
    for document, other, word in ((old, after, "before"), (new, before, "after")):
        for key, value in document.get("data", {}).items():
            document["data"][key] = "***" if other.get(key) == value else f"*** ({word})"


def _lines(document: dict[str, Any]) -> list[str]:
    from cli import output

    return output.to_yaml(document).splitlines(keepends=True) if document else []


def _show(lines: list[str]) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        colour = colours.get(line[:1]) if sys.stdout.isatty() else None
        click.echo(click.style(line, fg=colour) if colour else line, nl=not line.endswith("\n"))
