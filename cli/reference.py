"""Writes docs/cli.md from the help of every verb: `python -m cli.reference [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from cli.main import SECTIONS, sampan

# The same page whatever the terminal.
_WIDTH = 100
PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_INTRODUCTION = """\
# The command `sampan`

<!-- Written by `python -m cli.reference` from the help of the command: change that, not this page. -->

`sampan` talks to the master of a cluster. It finds the cluster of `make up` without flags; `--master HOST:PORT` or
`SAMPAN_MASTER` names another one. Verbs, kinds and short names are those of kubectl.

The exit code is 0 when everything was done, 1 when something failed (a line on standard error says what, and what to
do), 64 for wrong usage, 130 after Ctrl-C; `apply --wait` and `rollout status` have 2 for rolled back and 3 for failed
or timed out. Tables are coloured on a terminal and plain in a pipe.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every verb with its full name ("token create"), in the order of the help."""
    root = _root()
    for verbs in SECTIONS.values():
        for name in verbs:
            command = sampan.get_command(root, name)
            if command is None:
                raise LookupError(f"the verb {name} names no command")
            context = click.Context(
                command, info_name=name, parent=root, terminal_width=_WIDTH, max_content_width=_WIDTH
            )
            yield name, command, context
            if isinstance(command, click.Group):
                for sub in command.list_commands(context):
                    found = command.commands[sub]
                    yield (
                        f"{name} {sub}",
                        found,
                        click.Context(
                            found, info_name=sub, parent=context, terminal_width=_WIDTH, max_content_width=_WIDTH
                        ),
                    )


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, f"```\n{sampan.get_help(_root())}\n```\n"]
    for name, command, context in commands():
        text = command.get_help(context).split("\nGlobal options")[0].rstrip()
        parts.append(f"## sampan {name}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _root() -> click.Context:
    return click.Context(
        sampan,
        info_name="sampan",
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


def main() -> int:
    """Writes the page, or with --check tells by the exit code whether it is as it should be."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    click.echo(f"{PAGE.name} is not what the help says: run python -m cli.reference", err=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
