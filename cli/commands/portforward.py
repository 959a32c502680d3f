"""`port-forward`: ports of this machine that lead to a pod's."""

from __future__ import annotations

from typing import Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import pods


@click.command(
    "port-forward",
    cls=Verb,
    examples="""
    sampan port-forward web 8080:80
    sampan port-forward svc/web 8080:http
    sampan port-forward deploy/db 5432
    sampan port-forward web :80
    sampan port-forward --address 0.0.0.0 web 8080:80
    """,
)
@click.argument("what", metavar="POD | KIND/NAME", shell_complete=pods)
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@click.option(
    "--address",
    "addresses",
    default="localhost",
    show_default=True,
    metavar="ADDRESS,...",
    help="Where to listen; localhost is 127.0.0.1.",
)
@pass_settings
def port_forward(settings: Settings, what: str, ports: tuple[str, ...], addresses: str) -> None:
    """Listen on this machine and pass every connection on to a pod's port, until Ctrl-C.

    With svc/NAME every connection goes to one of its ready pods, and REMOTE is the service's port; with deploy/NAME and
    the like one pod is chosen now. It reaches what listens on the pod's address and, where the node's agent can enter
    the pod's network, what listens on its 127.0.0.1 only. TCP only.
    """
    from cli import forwarding, podsof, targets
    from common import kinds
    from common.errors import BadRequest

    with settings.connect() as client:
        kind, name = targets.one((what,), default=kinds.POD)
        if kind is kinds.SERVICE:
            obj: Any = client.get(kind, settings.namespace, name)
            target, known = f"service/{name}", {one.name: one.port for one in obj.spec.ports}
        else:
            obj = podsof.pod_behind(client, what, settings.namespace)
            target = f"pod/{obj.metadata.name}"
            known = {one.name: one.containerPort for box in obj.spec.containers for one in box.ports}

        def number_of(port: str) -> int:
            if port not in known:
                names = ", ".join(filter(None, known)) or "none that has a name"
                raise BadRequest(f'ports: {target} has no port "{port}": it has {names}')
            return int(known[port])

        wanted = [forwarding.parse_ports(text, number_of) for text in ports]
        listeners = forwarding.listen([one.strip() for one in addresses.split(",") if one.strip()], wanted)
        try:
            forwarding.forward(client, settings.namespace, target, listeners)
        finally:
            for listener, _ in listeners:
                listener.close()
