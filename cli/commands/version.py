"""`version`: of this command and of the master."""

from __future__ import annotations

import json
import platform

import click

from cli.app import Settings, Verb, address, pass_settings

# A version that cannot be had is not worth a long wait, in seconds.
_PATIENCE = 10.0


@click.command(
    "version",
    cls=Verb,
    examples="""
    sampan version
    sampan version --client
    sampan version -o json
    """,
)
@click.option("--client", "client_only", is_flag=True, help="Only of this command; asks no master.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For scripts.")
@pass_settings
def version(settings: Settings, client_only: bool, output: str | None) -> None:
    """Show the versions of this command and of the master."""
    from common.version import VERSION

    found: dict[str, dict[str, str | int]] = {
        "client": {"version": VERSION, "python": platform.python_version()},
    }
    failure: Exception | None = None
    if not client_only:
        from common.errors import SampanError

        try:
            with settings.connect() as client:
                answer = client.version(timeout=settings.timeout or _PATIENCE)
            found["server"] = {
                "version": answer.version,
                "python": answer.python,
                "cluster": answer.cluster,
                "schema": answer.schema,
                "address": address(settings.master),
            }
        except SampanError as error:
            failure = error
    if output == "json":
        click.echo(json.dumps(found, indent=4))
    elif output == "yaml":
        from cli.output import to_yaml

        click.echo(to_yaml(found), nl=False)
    else:
        click.echo(f"Client version: {VERSION} (Python {platform.python_version()})")
        if "server" in found:
            server = found["server"]
            click.echo(
                f"Server version: {server['version']} (Python {server['python']}), "
                f"cluster {server['cluster']}, at {server['address']}"
            )
    if failure is not None:
        raise failure
