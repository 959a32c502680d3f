"""`run` and `expose`: a pod or a service without a manifest file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from common.kinds import Kind

_DRY_RUN = click.option(
    "--dry-run",
    type=click.Choice(["none", "client", "server"]),
    default="none",
    show_default=True,
    help="client: only show what would be sent; server: let the master try it, too; nothing is stored.",
)
_OUTPUT = click.option("-o", "--output", type=click.Choice(["name", "yaml", "json"]), help="Print the object instead.")


@click.command(
    "run",
    cls=Verb,
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": True},
    examples="""
    sampan run web --image=nginx --port=80
    sampan run once --image=busybox --restart=Never -- sh -c 'date; hostname'
    sampan run -it --rm shell --image=busybox --restart=Never -- sh
    sampan run web --image=nginx --dry-run=client -o yaml > web.yaml
    """,
)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[-- ARGUMENTS...]")
@click.option("--image", required=True, help="What to run.")
@click.option("--port", type=click.IntRange(1, 65535), help="A port that the container listens on.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable; may be given several times.")
@click.option("-l", "--labels", default="", metavar="KEY=VALUE,...", help="Labels; run=NAME when none are given.")
@click.option("--annotations", multiple=True, metavar="KEY=VALUE", help="An annotation; may be given several times.")
@click.option(
    "--restart",
    type=click.Choice(["Always", "OnFailure", "Never"]),
    default="Always",
    show_default=True,
    help="When its container is started again.",
)
@click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="When to pull.")
@click.option("--command", "as_command", is_flag=True, help="ARGUMENTS replace the image's entrypoint, too.")
@click.option("--expose", "exposed", is_flag=True, help="Also make a service for --port.")
@click.option("-i", "--stdin", is_flag=True, help="Give it this command's standard input, and stay.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("--attach", "attached", is_flag=True, help="Stay and show its output; its exit code is this command's.")
@click.option("--rm", "remove", is_flag=True, help="Delete the pod in the end (with -i or --attach).")
@click.option(
    "--pod-running-timeout",
    "patience",
    type=DURATION,
    default=60.0,
    metavar="DURATION",
    help="How long -i and --attach wait for it to run (default 1m).",
)
@_DRY_RUN
@_OUTPUT
@pass_settings
@click.pass_context
def run(
    ctx: click.Context,
    settings: Settings,
    name: str,
    words: tuple[str, ...],
    image: str,
    port: int | None,
    variables: tuple[str, ...],
    labels: str,
    annotations: tuple[str, ...],
    restart: str,
    image_pull_policy: str | None,
    as_command: bool,
    exposed: bool,
    stdin: bool,
    tty: bool,
    attached: bool,
    remove: bool,
    patience: float,
    dry_run: str,
    output: str | None,
) -> None:
    """Run one pod with one container."""
    from common.errors import BadRequest

    stays = stdin or attached
    if remove and not stays:
        raise BadRequest("--rm needs -i or --attach: without them this command ends before the pod does")
    if tty and not stdin:
        raise BadRequest("-t needs -i: nobody could type")
    if stays and (dry_run != "none" or output):
        raise BadRequest("-i and --attach do not go together with --dry-run and -o")
    if exposed and port is None:
        raise BadRequest("--expose needs --port: a service has to know where to send its traffic")
    marks = _pairs("--labels", tuple(filter(None, labels.split(",")))) or {"run": name}
    container: dict[str, Any] = {"name": name, "image": image}
    if words:
        container["command" if as_command else "args"] = list(words)
    elif as_command:
        raise BadRequest("--command needs the command behind --, like: sampan run x --image=busybox --command -- date")
    if variables:
        container["env"] = [{"name": key, "value": value} for key, value in _pairs("--env", variables).items()]
    if port is not None:
        container["ports"] = [{"containerPort": port}]
    if image_pull_policy is not None:
        container["imagePullPolicy"] = image_pull_policy
    if stdin:
        container |= {"stdin": True, "stdinOnce": True}
    if tty:
        container["tty"] = True
    metadata: dict[str, Any] = {"name": name, "labels": marks}
    if annotations:
        metadata["annotations"] = _pairs("--annotations", annotations)
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container], "restartPolicy": restart},
        }
    ]
    if exposed:
        documents.append(_service(name, marks, [{"port": port, "targetPort": port, "protocol": "TCP"}], "ClusterIP"))
    if not stays:
        _create(settings, documents, dry_run, output, "created")
        return
    from cli import running

    ctx.exit(running.run_here(settings, documents, name, stdin=stdin, tty=tty, remove=remove, patience=patience))


@click.command(
    "expose",
    cls=Verb,
    examples="""
    sampan expose rc/web --port=80
    sampan expose deployment/web --port=80 --target-port=http --type=NodePort --node-port=8765
    sampan expose pod web --port=5432 --name=db
    """,
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME | KIND NAME", shell_complete=kinds_and_names)
@click.option("--port", type=click.IntRange(1, 65535), help="The service's port; the containers' ports when left out.")
@click.option("--target-port", default="", help="The pods' port, by number or name; --port when left out.")
@click.option("--protocol", type=click.Choice(["TCP", "UDP"]), help="TCP, or what the containers' port says.")
@click.option("--name", default="", help="The service's name; the object's when left out.")
@click.option(
    "--type",
    "how",
    type=click.Choice(["ClusterIP", "NodePort", "LoadBalancer"]),
    default="ClusterIP",
    show_default=True,
    help="Where it can be reached.",
)
@click.option("--node-port", type=click.IntRange(1, 65535), help="The port on the nodes; a free one when left out.")
@click.option("--selector", default="", metavar="KEY=VALUE,...", help="The pods; the object's when left out.")
@click.option("-l", "--labels", default="", metavar="KEY=VALUE,...", help="Labels of the service.")
@click.option("--session-affinity", type=click.Choice(["None", "ClientIP"]), help="Whether clients stay with a pod.")
@click.option("--headless", is_flag=True, help="No address of its own: its name answers with the pods' addresses.")
@_DRY_RUN
@_OUTPUT
@pass_settings
def expose(
    settings: Settings,
    what: tuple[str, ...],
    port: int | None,
    target_port: str,
    protocol: str | None,
    name: str,
    how: str,
    node_port: int | None,
    selector: str,
    labels: str,
    session_affinity: str | None,
    headless: bool,
    dry_run: str,
    output: str | None,
) -> None:
    """Make a service for the pods of an object."""
    from cli import templates
    from cli.targets import one
    from common.errors import BadRequest
    from common.kinds import SERVICE

    kind, target = one(what)
    with settings.connect() as client:
        obj = client.get(kind, settings.namespace, target)
    named = [] if kind is SERVICE else list(templates.ports(templates.pod_spec(kind, obj)))
    if node_port is not None and how == "ClusterIP":
        raise BadRequest("--node-port needs --type=NodePort")
    if port is None and not named:
        raise BadRequest("--port is required: the containers name no ports")
    if port is not None:
        known = next((one.protocol for one in named if one.containerPort == port), "")
        ports: list[dict[str, Any]] = [{"port": port, "protocol": protocol or known or "TCP"}]
        ports[0]["targetPort"] = int(target_port) if target_port.isdigit() else target_port or port
    else:
        ports = [
            {"port": one.containerPort, "targetPort": one.containerPort, "protocol": protocol or one.protocol or "TCP"}
            for one in named
        ]
        for number, entry in enumerate(ports if len(ports) > 1 else []):
            entry["name"] = named[number].name or f"port-{number + 1}"
    if node_port is not None:
        ports[0]["nodePort"] = node_port
    chosen = _pairs("--selector", tuple(filter(None, selector.split(","))))
    service = _service(name or target, chosen or _labels(kind, obj), ports, how)
    service["metadata"]["labels"] = _pairs("--labels", tuple(filter(None, labels.split(",")))) or dict(
        obj.metadata.labels
    )
    if session_affinity is not None:
        service["spec"]["sessionAffinity"] = session_affinity
    if headless:
        service["spec"]["clusterIP"] = "None"
    _create(settings, [service], dry_run, output, "exposed")


def _labels(kind: Kind, obj: Any) -> dict[str, str]:
    from cli import templates

    return dict(templates.pod_labels(kind, obj))


def _service(name: str, selector: dict[str, str], ports: list[dict[str, Any]], how: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports, "type": how},
    }


def _pairs(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    from common.errors import BadRequest

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise BadRequest(f'{flag}: must be KEY=VALUE, got "{text}"')
        found[key] = value
    return found


def _create(settings: Settings, documents: list[dict[str, Any]], dry_run: str, output: str | None, done: str) -> None:
    import json

    from cli import failure
    from cli import output as texts
    from cli.targets import shown
    from common import manifest
    from common.kinds import of

    decoded = [manifest.from_manifest(document) for document in documents]
    made: list[Any] = [one.message for one in decoded]
    if dry_run != "client":
        with settings.connect() as client:
            answers = [
                client.create(json.dumps(document), settings.namespace, dry_run=dry_run == "server")
                for document in documents
            ]
        made = [answer.obj for answer in answers]
        for answer in answers:
            for warning in answer.warnings:
                failure.warn(warning)
    if output in ("yaml", "json"):
        found = [manifest.to_manifest(obj) for obj in made]
        whole = found[0] if len(found) == 1 else texts.as_list(found)
        click.echo(texts.to_yaml(whole) if output == "yaml" else texts.to_json(whole), nl=False)
        return
    note = {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")
    for obj in made:
        name = shown(of(obj), obj.metadata.name)
        click.echo(name if output == "name" else f"{name} {done}{note}")
