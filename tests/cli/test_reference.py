"""The page docs/cli.md, and that every verb can be helped with."""

from __future__ import annotations

import click
import pytest

from cli import reference
from cli.app import Family, Verb

COMMANDS = {name: (command, context) for name, command, context in reference.commands()}


def test_the_page_is_what_the_help_says() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run python -m cli.reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_has_examples_and_the_global_flags(name: str) -> None:
    command, context = COMMANDS[name]
    assert isinstance(command, Verb | Family)
    text = command.get_help(context)
    assert f"Examples:\n  sampan {name}" in text or "Examples:\n  source <(sampan completion" in text
    assert all(flag in text for flag in ("--master", "--token", "--namespace", "--request-timeout", "--help"))
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert all(option.help or option.type for option in options)
