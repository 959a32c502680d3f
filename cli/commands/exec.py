"""`exec` and `attach`: a command in a container, or the container's own process, at this terminal."""

from __future__ import annotations

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import pods

_CONTAINER = click.option("-c", "--container", default="", metavar="NAME", help="Which container (default: the first).")


@click.command(
    "exec",
    cls=Verb,
    examples="""
    sampan exec web -- ls -l /
    sampan exec -it web -- sh
    sampan exec deploy/web -c sidecar -- cat /etc/hosts
    tar cf - site | sampan exec -i web -- tar xf - -C /srv
    """,
)
@click.argument("what", metavar="POD | KIND/NAME", shell_complete=pods)
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
@_CONTAINER
@click.option("-i", "--stdin", is_flag=True, help="Give it this command's standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@pass_settings
@click.pass_context
def exec_(
    ctx: click.Context, settings: Settings, what: str, words: tuple[str, ...], container: str, stdin: bool, tty: bool
) -> None:
    """Run a command in a container; its exit code is this command's.

    With deploy/web or svc/web, one of its pods is chosen, a ready one where there is one. With a terminal every key
    goes to the command, Ctrl-C too. Without one, Ctrl-C ends this command and, where the node's agent can reach the
    processes of its engine, the one in the container.
    """
    from cli import podsof, terminal
    from protos import control_pb2 as control

    with settings.connect() as client:
        pod = podsof.pod_behind(client, what, settings.namespace)
        start = control.ExecStart(
            namespace=pod.metadata.namespace,
            pod=pod.metadata.name,
            container=container or podsof.default_container(pod),
            argv=words,
            stdin=stdin,
            tty=terminal.wants_terminal(tty),
        )
        code = terminal.converse(client.exec, control.ExecRequest, start)
    ctx.exit(terminal.must_have_ended(code))


@click.command(
    "attach",
    cls=Verb,
    examples="""
    sampan attach web
    sampan attach -it shell
    """,
)
@click.argument("what", metavar="POD | KIND/NAME", shell_complete=pods)
@_CONTAINER
@click.option("-i", "--stdin", is_flag=True, help="Give it this command's standard input (its spec needs stdin: true).")
@click.option("-t", "--tty", is_flag=True, help="Use its terminal (its spec needs tty: true).")
@pass_settings
@click.pass_context
def attach(ctx: click.Context, settings: Settings, what: str, container: str, stdin: bool, tty: bool) -> None:
    """Join the output, and with -i the input, of the process that runs in a container.

    It shows what is written from now on; `sampan logs` has what was before. Leaving ends nothing in the container. When
    the process ends, its exit code is this command's.
    """
    from cli import podsof, terminal
    from protos import control_pb2 as control

    with settings.connect() as client:
        pod = podsof.pod_behind(client, what, settings.namespace)
        start = control.AttachStart(
            namespace=pod.metadata.namespace,
            pod=pod.metadata.name,
            container=container or podsof.default_container(pod),
            stdin=stdin,
            tty=terminal.wants_terminal(tty),
        )
        code = terminal.converse(client.attach, control.AttachRequest, start, begun=hint if start.tty else lambda: None)
    ctx.exit(code or 0)


def hint() -> None:
    """What is written before somebody looks is not written again."""
    click.echo("If you don't see a prompt, press Enter.\r", err=True)
