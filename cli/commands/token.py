"""`token`: what a machine needs to join the cluster."""

from __future__ import annotations

import time

import click

from cli.app import DURATION, Family, Settings, address, pass_settings


@click.group(
    "token",
    cls=Family,
    examples="""
    sampan token create
    sampan token list
    sampan token revoke 4fz2kq
    """,
)
def token() -> None:
    """Make, list and revoke the tokens with which machines join the cluster."""


@token.command(
    "create",
    examples="""
    sampan token create
    sampan token create --ttl=1h --description='rack 7'
    """,
)
@click.option("--ttl", type=DURATION, default="24h", show_default=True, metavar="DURATION", help="How long it holds.")
@click.option("--description", default="", help="What it is for; shown by `sampan token list`.")
@click.option("--print-token", is_flag=True, help="Print the token alone.")
@pass_settings
def create(settings: Settings, ttl: float, description: str, print_token: bool) -> None:
    """Make a token and print the line to run, as root, on the new machine.

    The token is shown only now.
    """
    from common.errors import BadRequest

    if ttl < 1:
        raise BadRequest("--ttl must be at least 1s, for instance 24h")
    with settings.connect() as client:
        made = client.create_token(round(ttl), description)
    if print_token:
        click.echo(made.token)
        return
    join = made.addresses[0] if made.addresses else address(settings.master)
    click.echo(f"sampan-node --master {join} --token {made.token}")


@token.command("list", examples="sampan token list")
@pass_settings
def list_tokens(settings: Settings) -> None:
    """List the tokens; their secrets are not kept and cannot be shown."""
    from cli import screen
    from cli.ages import since_text

    with settings.connect() as client:
        tokens = client.list_tokens()
    if not tokens:
        click.echo("No tokens. `sampan token create` makes one.", err=True)
        return
    now = time.time()
    screen.rows(
        ("ID", "EXPIRES", "AGE", "DESCRIPTION"),
        [
            (
                found.id,
                "expired" if found.expired else found.expires or "never",
                since_text(found.created, now),
                found.description or "<none>",
            )
            for found in tokens
        ],
    )


@token.command("revoke", examples="sampan token revoke 4fz2kq")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@pass_settings
def revoke(settings: Settings, ids: tuple[str, ...]) -> None:
    """Revoke tokens; machines that joined with them stay."""
    from cli import failure
    from common.errors import NotFound

    failed = False
    with settings.connect() as client:
        for token_id in ids:
            try:
                click.echo(f'token "{client.revoke_token(token_id)}" revoked')
            except NotFound as error:
                failed = True
                failure.report(error)
    if failed:
        raise failure.Failed
