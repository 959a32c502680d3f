"""`sampan-master`: reads the flags, runs one master, and says in one line why it can't."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from pathlib import Path

import click

from common import heap, logs
from common.errors import SampanError
from common.version import VERSION
from master.api.access import Network, parse_trust
from master.server import MasterConfig, serve


def _cidr(_: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise click.BadParameter(f"must be an IPv4 network such as 10.96.0.0/16, got {text!r} ({error})") from error


def _listen(_: click.Context, parameter: click.Parameter, text: str) -> str:
    host, _colon, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise click.BadParameter(f"must be HOST:PORT such as 0.0.0.0:7443, got {text!r}")
    return text


def _trust(_: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return parse_trust(words)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"auto_envvar_prefix": "SAMPAN_MASTER", "max_content_width": 100})
@click.option(
    "--listen", default="127.0.0.1:7443", callback=_listen, show_default=True, help="HOST:PORT for users and nodes."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/sampan/master"),
    show_default=True,
    help="Directory of the store and the admin token.",
)
@click.option(
    "--cluster", default="sampan", show_default=True, help="Name of the cluster, on every container it makes."
)
@click.option(
    "--cluster-cidr",
    default="10.244.0.0/16",
    callback=_cidr,
    show_default=True,
    help="Range of all pod IPs; each node gets a /24 of it.",
)
@click.option(
    "--service-cidr", default="10.96.0.0/16", callback=_cidr, show_default=True, help="Range of services' cluster IPs."
)
@click.option(
    "--bootstrap-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a join token here, if the file is missing.",
)
@click.option(
    "--trust",
    multiple=True,
    callback=_trust,
    help="Network whose callers need no admin token, or 'gateway'. Loopback always is.",
)
@click.option(
    "--advertise", multiple=True, help="HOST:PORT at which new nodes reach this master; shown by 'sampan token create'."
)
@click.option(
    "--routes-port",
    type=click.IntRange(0, 65535),
    help="Port for the nodes' routing tables alone; by default the one after --listen's, 0: none.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-json", is_flag=True, help="One JSON object a line.")
@click.version_option(VERSION, prog_name="sampan-master")
def main(
    listen: str,
    data: Path,
    cluster: str,
    cluster_cidr: str,
    service_cidr: str,
    bootstrap_token_file: Path | None,
    trust: tuple[Network, ...],
    advertise: tuple[str, ...],
    routes_port: int | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Runs the master of a Sampan cluster until SIGTERM or SIGINT.

    \b
    Example, for nodes on other machines:
      sampan-master --listen 0.0.0.0:7443 --data /var/lib/sampan/master
    """
    logs.configure(role="master", level=log_level, json=log_json)
    pods, services = ipaddress.IPv4Network(cluster_cidr), ipaddress.IPv4Network(service_cidr)
    if pods.overlaps(services):
        raise click.UsageError(f"--cluster-cidr {pods} and --service-cidr {services} overlap: give each its own range")
    config = MasterConfig(
        data, listen, cluster, cluster_cidr, service_cidr, bootstrap_token_file, trust, advertise, routes_port
    )
    heap.one_heap()
    try:
        asyncio.run(_run(config))
    except* SampanError as errors:
        for error in _flat(errors):
            click.echo(f"error: {error}", err=True)
        sys.exit(1)


async def _run(config: MasterConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, stop)


def _flat(group: BaseExceptionGroup[SampanError]) -> list[SampanError]:
    found: list[SampanError] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()
