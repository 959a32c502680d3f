"""`completion`: a script for the shell."""

from __future__ import annotations

import click

from cli.app import Settings, Verb, pass_settings


@click.command(
    "completion",
    cls=Verb,
    examples="""
    source <(sampan completion bash)
    sampan completion zsh > "${fpath[1]}/_sampan"
    sampan completion fish > ~/.config/fish/completions/sampan.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_settings
def completion(settings: Settings, shell: str) -> None:
    """Print a script that completes verbs, flags, kinds and the names of objects."""
    from click.shell_completion import get_completion_class

    from cli.main import sampan

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(sampan, {}, "sampan", "_SAMPAN_COMPLETE").source())
