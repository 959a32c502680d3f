"""`edit`: an object in an editor, written back as a change to whatever it has become meanwhile."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from cli.client import Client
    from common.kinds import Kind

_HEAD = """\
# Edit the object below; lines that begin with '#' are ignored, and an empty file ends the edit.
# If a fault is found, the file opens again with it at the top.
#
"""


@click.command(
    "edit",
    cls=Verb,
    examples="""
    sampan edit rc/web
    EDITOR=nano sampan edit svc web
    """,
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME | KIND NAME", shell_complete=kinds_and_names)
@pass_settings
def edit(settings: Settings, what: tuple[str, ...]) -> None:
    """Change an object in your editor (SAMPAN_EDITOR, VISUAL, EDITOR, or vi).

    What you change is sent as a merge patch, so that what others change meanwhile stays.
    """
    from cli import output
    from cli.targets import one, shown
    from common import manifest

    kind, name = one(what)
    with settings.connect() as client:
        before = manifest.to_manifest(client.get(kind, settings.namespace, name))
        text, fault = output.to_yaml(before), ""
        while True:
            written = _opened(text, fault)
            if not written.strip() or written == text:
                if fault:
                    _keep(written, kind, name)
                    raise click.exceptions.Exit(1)
                click.echo("Edit cancelled, no changes made.")
                return
            text = written
            try:
                changed = _send(client, settings.namespace, kind, name, before, text)
            except Exception as error:  # whatever the master or the reader says of the text goes into the file
                from cli.failure import known, message

                if not known(error) or not sys.stdin.isatty():
                    _keep(text, kind, name)
                    raise
                fault = message(error)
                continue
            click.echo(f"{shown(kind, name)} {'edited' if changed else 'unchanged'}")
            return


def _send(client: Client, namespace: str, kind: Kind, name: str, before: dict[str, Any], text: str) -> bool:
    from common import yamldoc
    from common.errors import BadRequest

    documents = yamldoc.load(text, "edit")
    if len(documents) != 1:
        raise BadRequest(f"the file must hold one object, it holds {len(documents)}")
    change = difference(before, documents[0].value)
    if not change:
        return False
    change.pop("status", None)
    client.patch(kind, namespace, name, json.dumps(change), "MERGE")
    return bool(change)


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7386) that makes `after` of `before`."""
    change: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                change[key] = inner
        elif key not in before or value != old:
            change[key] = value
    return change


def _opened(text: str, fault: str) -> str:
    """The text after the user's editor, without the lines that are only for reading."""
    from common.errors import BadRequest

    editor = next(
        (value for name in ("SAMPAN_EDITOR", "VISUAL", "EDITOR") if (value := os.environ.get(name, "").strip())), "vi"
    )
    head = _HEAD + "".join(f"# {line}\n" for line in fault.splitlines()) + ("#\n" if fault else "")
    with tempfile.TemporaryDirectory(prefix="sampan-edit-") as folder:
        path = Path(folder) / "object.yaml"
        path.write_text(head + text, encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
        except OSError as error:
            raise BadRequest(
                f'the editor "{editor}" does not start ({error.strerror}): set EDITOR to one that is there'
            ) from None
        if code != 0:
            raise BadRequest(f'the editor "{editor}" ended with exit code {code}: nothing was changed')
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def _keep(text: str, kind: Kind, name: str) -> None:
    """What was written is not lost with the fault."""
    descriptor, path = tempfile.mkstemp(prefix=f"sampan-edit-{kind.singular}-{name}-", suffix=".yaml")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    click.echo(f"your changes are in {path}", err=True)
