"""Options that several verbs share."""

from __future__ import annotations

import click

FILES = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="A manifest, a folder of them, or - for standard input; may be given several times.",
)
RECURSIVE = click.option("-R", "--recursive", is_flag=True, help="Look into folders below the given ones, too.")
