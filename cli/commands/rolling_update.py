"""`rolling-update`: a ReplicationController's pods replaced by those of a new template, one by one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from protos.core_pb2 import PodTemplateSpec, ReplicationController


@click.command(
    "rolling-update",
    cls=Verb,
    examples="""
    sampan rolling-update web --image=web:2
    sampan rolling-update rc/web --image=app=web:2 --timeout=5m
    sampan rolling-update web -f web-v2.yaml
    """,
)
@click.argument("name", metavar="RC", shell_complete=kinds_and_names)
@click.option("--image", metavar="[CONTAINER=]IMAGE", default="", help="The new image of its container.")
@click.option(
    "-f", "--filename", metavar="FILE|-", default="", help="A manifest of the controller with a new template."
)
@click.option("--timeout", type=DURATION, default="15m", show_default=True, metavar="DURATION", help="Give up waiting.")
@click.option("--wait/--no-wait", default=True, help="Wait until every pod is replaced (the default).")
@pass_settings
def rolling_update(settings: Settings, name: str, image: str, filename: str, timeout: float, wait: bool) -> None:
    """Give a ReplicationController a new pod template and replace its pods one by one.

    The master does it: one pod of the new template is made, and when it is ready one old pod goes, until none is
    left. It goes on when this command is interrupted. A template with a host port goes the other way round: the old
    pod first.
    """
    from cli import targets, waitrollout
    from cli.rollouts.controller import ROLLING
    from common import kinds
    from common.errors import BadRequest

    if bool(image) == bool(filename):
        raise BadRequest("say what is new: --image=IMAGE, or -f FILE with the controller's new manifest")
    kind, chosen = targets.one((name,), default=kinds.REPLICATION_CONTROLLER)
    if kind is not kinds.REPLICATION_CONTROLLER:
        raise BadRequest(
            f"rolling-update is for ReplicationControllers: a changed {kind.kind} rolls by itself where it can "
            "(`sampan apply`, `sampan set image`)"
        )
    template = _template_from(filename, chosen) if filename else None

    def change(rc: ReplicationController) -> None:
        if template is not None:
            rc.spec.template.CopyFrom(template)
        else:
            _set_image(rc, image)
        rc.metadata.annotations[ROLLING] = "once"

    with settings.connect() as client:
        obj, changed = client.edit(kind, settings.namespace, chosen, change)
        if not changed:
            click.echo(f"{targets.shown(kind, chosen)} unchanged")
            return
        click.echo(f"{targets.shown(kind, chosen)} rolling update begun")
        if not wait:
            return
        until = time.monotonic() + timeout if timeout > 0 else None
        with waitrollout.Progress() as progress:
            waiter = waitrollout.RolloutWait(
                client, kind, obj.metadata.namespace, chosen, until=until, show=progress.show
            )
            outcome = waiter.wait()
        waitrollout.tell(outcome)
    if outcome.code:
        raise click.exceptions.Exit(outcome.code)


def _template_from(filename: str, name: str) -> PodTemplateSpec:
    from cli import manifests
    from common import kinds
    from common.errors import BadRequest

    found: list[Any] = [item for item in manifests.load((filename,)) if item.kind is kinds.REPLICATION_CONTROLLER]
    if len(found) != 1:
        raise BadRequest(f"{filename} must hold one ReplicationController, has {len(found)}")
    if found[0].name != name:
        raise BadRequest(
            f'{filename} is of "{found[0].name}", not of "{name}": a controller keeps its name through a rolling update'
        )
    template: PodTemplateSpec = found[0].message.spec.template
    return template


def _set_image(rc: ReplicationController, text: str) -> None:
    from common.errors import BadRequest, NotFound

    containers = rc.spec.template.spec.containers
    names = [container.name for container in containers]
    wanted, sign, image = text.partition("=")
    if not sign:
        if len(containers) != 1:
            raise BadRequest(f"say which container: --image=CONTAINER={text}, one of {', '.join(names)}")
        wanted, image = names[0], text
    for container in containers:
        if container.name == wanted:
            container.image = image
            return
    raise NotFound(f'no container "{wanted}" in rc/{rc.metadata.name}: it has {", ".join(names)}')
