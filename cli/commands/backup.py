"""`backup` and `restore`: the whole store as one file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from cli.app import Settings, Verb, pass_settings

_PIECE = 256 * 1024


@click.command(
    "backup",
    cls=Verb,
    examples="""
    sampan backup cluster.db
    sampan backup - | gzip > cluster.db.gz
    """,
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@pass_settings
def backup(settings: Settings, file: str) -> None:
    """Write the whole store into a file while the cluster runs; secrets are in it, so guard the file.

    FILE appears only when it is complete; - is standard output.
    """
    with settings.connect() as client:
        if file == "-":
            for piece in client.backup():
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        part = Path(f"{file}.part")
        size = 0
        try:
            # Readable by its owner only from the first byte on.
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                with _progress("backing up", 0) as advance:
                    for piece in client.backup():
                        out.write(piece)
                        size += len(piece)
                        advance(len(piece))
                out.flush()
                os.fsync(out.fileno())
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    click.echo(f"{file} written ({_size(size)})")


@click.command(
    "restore",
    cls=Verb,
    examples="""
    sampan restore cluster.db
    sampan restore cluster.db --yes
    """,
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_settings
def restore(settings: Settings, file: str, yes: bool) -> None:
    """Replace everything the master stores by what a backup holds.

    The file is checked before anything changes. Pods that are not in the backup are stopped.
    """
    from cli.app import address

    if not yes:
        click.confirm(
            f"Everything the master at {address(settings.master)} stores is replaced by {file}. Go on?",
            abort=True,
            err=True,
        )
    with settings.connect() as client, Path(file).open("rb") as data:
        with _progress("restoring", os.fstat(data.fileno()).st_size) as advance:
            done = client.restore(_pieces(data, advance))
    click.echo(f"restored {done.objects} objects, revision {done.resource_version}")


def _pieces(data: BinaryIO, advance: _Advance) -> Iterator[bytes]:
    while piece := data.read(_PIECE):
        yield piece
        advance(len(piece))


class _Advance:
    """Tells how many more bytes were carried; without a terminal it tells nobody."""

    def __call__(self, count: int) -> None:
        return None


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[_Advance]:
    """A bar on stderr while the block runs, where that is a terminal. `total` 0: not known."""
    if not sys.stderr.isatty():
        yield _Advance()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=Console(stderr=True), transient=True
    )
    with bar:
        task = bar.add_task(what, total=total or None)

        class Bar(_Advance):
            def __call__(self, count: int) -> None:
                bar.advance(task, count)

        yield Bar()


def _size(count: int) -> str:
    from common.quantity import format_bytes

    return f"{format_bytes(count)}B" if count >= 1024 else f"{count} bytes"
