"""`logs`: what containers wrote: of a pod, of a controller's or service's pods, or of all with some labels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import pods

if TYPE_CHECKING:
    from cli.client import Client
    from protos import control_pb2 as control

# Of each container where several are read by labels, as with kubectl.
_SELECTOR_TAIL = 10


@click.command(
    "logs",
    cls=Verb,
    examples="""
    sampan logs web
    sampan logs web -c sidecar --tail=20
    sampan logs deploy/web -f
    sampan logs deploy/web --all-pods -f
    sampan logs -l app=web --all-containers --prefix
    sampan logs web --previous
    sampan logs web --since=5m --timestamps
    """,
)
@click.argument("what", metavar="[POD | KIND/NAME]", default="", shell_complete=pods)
@click.argument("container_name", default="", metavar="[CONTAINER]")
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Of every pod with these labels.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container (default: the first).")
@click.option("--all-containers", is_flag=True, help="Every container of the pods, init containers first.")
@click.option("--all-pods", is_flag=True, help="With KIND/NAME: all of its pods, with --prefix.")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
@click.option("--tail", type=int, default=None, metavar="LINES", help="Only the last lines (default: all; 10 with -l).")
@click.option("-p", "--previous", is_flag=True, help="Of the run before the last restart.")
@click.option("--prefix", is_flag=True, help="Each line with its pod and container.")
@click.option("--timestamps", is_flag=True, help="Each line with its time.")
@click.option("--since", type=DURATION, default=None, metavar="DURATION", help="Only what is newer, for instance 5m.")
@click.option("--since-time", default="", metavar="TIME", help="Only from this time on (RFC 3339).")
@click.option(
    "--max-log-requests", type=click.IntRange(1), default=5, show_default=True, help="How many -f may follow at once."
)
@pass_settings
def logs(
    settings: Settings,
    what: str,
    container_name: str,
    labels: str,
    container: str,
    all_containers: bool,
    all_pods: bool,
    follow: bool,
    tail: int | None,
    previous: bool,
    prefix: bool,
    timestamps: bool,
    since: float | None,
    since_time: str,
    max_log_requests: int,
) -> None:
    """Print what containers wrote to their standard output and error.

    With deploy/web or svc/web, one of its pods is chosen, a ready one where there is one; --all-pods and -l read
    several: one after another, with -f at once and mixed by line. What can't be read, because its node is away for
    instance, is named on stderr; the rest is printed all the same, and the exit code is 1.
    """
    from cli import failure, logstreams, podsof
    from common.errors import BadRequest
    from protos import control_pb2 as control

    if container and container_name and container != container_name:
        raise BadRequest(f'two containers are named, "{container_name}" and "{container}": name one')
    if bool(what) == bool(labels):
        raise BadRequest("say which pods: a pod, KIND/NAME, or -l LABELS, and only one of them")
    chosen = container or container_name
    if chosen and all_containers:
        raise BadRequest("--all-containers and a container's name do not go together")
    base = control.LogsRequest(follow=follow, previous=previous, timestamps=timestamps)
    if tail is None and labels:
        tail = _SELECTOR_TAIL
    if tail is not None and tail >= 0:
        base.tail_lines = tail
    _since(base, since, since_time)
    with settings.connect() as client:
        found = _pods(client, what, labels, settings.namespace, every=all_pods)
        if not found:
            click.echo(f"No pods with the labels {labels} in namespace {settings.namespace}.", err=True)
            return

        def containers(pod: Any) -> list[str]:
            if all_containers:
                return [one.name for one in (*pod.spec.initContainers, *pod.spec.containers)]
            return [chosen or podsof.default_container(pod)]

        wanted = logstreams.sources(found, containers, base)
        if len(wanted) == 1 and not prefix and not all_pods:
            logstreams.copy_out(client.logs(wanted[0].request))
            return
        printer = logstreams.Printer(client.logs, prefix=prefix or all_pods)
        if follow:
            printer.together(wanted, max_log_requests)
        else:
            printer.in_turn(wanted)
    if printer.failed:
        raise failure.Failed


def _since(base: control.LogsRequest, since: float | None, since_time: str) -> None:
    from common.errors import BadRequest

    if since is not None and since_time:
        raise BadRequest("--since and --since-time do not go together")
    if since is not None:
        if since <= 0:
            raise BadRequest("--since must be a time in the past such as 5m")
        base.since_seconds = max(1, round(since))
    if since_time:
        try:
            moment = datetime.fromisoformat(since_time)
        except ValueError:
            raise BadRequest(
                f'--since-time must be a time like 2026-01-31T08:00:00Z (RFC 3339), got "{since_time}"'
            ) from None
        base.since_time.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _pods(client: Client, what: str, labels: str, namespace: str, *, every: bool) -> list[Any]:
    from cli import podsof
    from common import kinds

    if labels:
        return list(client.list(kinds.POD, namespace, labels=labels).items)
    if every:
        return sorted(podsof.pods_behind(client, what, namespace), key=lambda pod: str(pod.metadata.name))
    return [podsof.pod_behind(client, what, namespace, hint=" (--all-pods for all)")]
