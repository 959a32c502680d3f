"""What every command shares: the global flags before or after the verb, lazy loading, help with examples."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cli.client import Client

DEFAULT_MASTER = "127.0.0.1:7443"
DEFAULT_PORT = 7443


@dataclass
class Settings:
    """The global flags. `namespace_given` tells whether -n was written on the command line."""

    master: str = field(default_factory=lambda: os.environ.get("SAMPAN_MASTER") or DEFAULT_MASTER)
    token: str = field(default_factory=lambda: os.environ.get("SAMPAN_TOKEN", ""))
    namespace: str = field(default_factory=lambda: os.environ.get("SAMPAN_NAMESPACE") or "default")
    namespace_given: bool = False
    timeout: float = 0

    def connect(self, *, timeout: float | None = None) -> Client:
        """A client for these settings; nothing is dialled yet."""
        from cli.client import Client

        return Client(address(self.master), token=self.token, timeout=self.timeout if timeout is None else timeout)


def address(text: str) -> str:
    """HOST:PORT from HOST or HOST:PORT. Raises UsageError for anything else."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text.strip(), str(DEFAULT_PORT)
    if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError(f'--master or SAMPAN_MASTER must be HOST:PORT such as {DEFAULT_MASTER}, got "{text}"')
    return f"{host}:{int(port)}"


class Duration(click.ParamType[float]):
    """Seconds from "30s", "5m", "1h30m", "7d" or a bare number."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from cli.ages import parse_duration

        try:
            return float(value) if isinstance(value, (int, float)) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None:
            settings = ctx.ensure_object(Settings)
            setattr(settings, name, value)
            if name == "namespace":
                settings.namespace_given = True
        return value

    return callback


def _global_options() -> list[click.Option]:
    return [
        click.Option(
            ["--master"],
            metavar="HOST:PORT",
            callback=_set("master"),
            expose_value=False,
            help=f"The master to talk to (SAMPAN_MASTER; default {DEFAULT_MASTER}).",
        ),
        click.Option(
            ["--token"],
            metavar="TOKEN",
            callback=_set("token"),
            expose_value=False,
            help="Who you are, where the master asks for it (SAMPAN_TOKEN).",
        ),
        click.Option(
            ["-n", "--namespace"],
            metavar="NAME",
            callback=_set("namespace"),
            expose_value=False,
            shell_complete=complete_namespaces,
            help="The namespace to work in (SAMPAN_NAMESPACE; default default).",
        ),
        click.Option(
            ["--request-timeout"],
            type=DURATION,
            metavar="DURATION",
            callback=_set("timeout"),
            expose_value=False,
            help="Give up on a single request after this time, for instance 10s (default 0: never).",
        ),
    ]


def complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Shell completion of namespaces."""
    from cli.completing import names

    return names(ctx, "namespaces", incomplete)


class Verb(click.Command):
    """A command that takes the global flags, too, and shows examples first."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.own_params = list(self.params)
        self.params = [*self.params, *_global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _plain_flags(args, self.params))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        own = [record for param in self.own_params if (record := param.get_help_record(ctx))]
        own += [record for param in [self.get_help_option(ctx)] if param and (record := param.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(own)
        write_globals(ctx, formatter)


def _plain_flags(args: list[str], params: list[click.Parameter]) -> list[str]:
    """kubectl's spelling of flags, `--watch=false` and `--force=true`, in click's: `--no-watch`, `--force`."""
    flags = {
        name: param for param in params if isinstance(param, click.Option) and param.is_flag for name in param.opts
    }
    plain: list[str] = []
    for position, arg in enumerate(args):
        if arg == "--":
            return [*plain, *args[position:]]
        name, _, value = arg.partition("=")
        flag = flags.get(name) if value in ("true", "false") else None
        if flag is None:
            plain.append(arg)
        elif value == "true":
            plain.append(name)
        else:
            plain += flag.secondary_opts[:1]
    return plain


class Family(click.Group):
    """A verb with verbs of its own (token create)."""

    command_class = Verb

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params = [*self.params, *_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        self.format_commands(ctx, formatter)
        helping = self.get_help_option(ctx)
        record = helping.get_help_record(ctx) if helping else None
        if record:
            with formatter.section("Options"):
                formatter.write_dl([record])
        write_globals(ctx, formatter)


class Root(click.Group):
    """The command `sampan`: verbs in sections, each imported only when it is used.

    `sections` maps a heading to verbs: name -> ("module:attribute", one line of help).
    """

    def __init__(self, sections: dict[str, dict[str, tuple[str, str]]], examples: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sections = sections
        self.examples = examples
        self.verbs = {name: place for verbs in sections.values() for name, (place, _) in verbs.items()}
        self.params = [*self.params, *_global_options()]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self.verbs.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        for heading, verbs in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in verbs.items()])
        write_globals(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("Use `sampan VERB --help` for more about a verb.")


def write_examples(examples: str, formatter: click.HelpFormatter) -> None:
    """The examples as they are, not wrapped: they are there to be copied."""
    if examples:
        formatter.write("\nExamples:\n")
        for line in examples.strip().splitlines():
            formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


def write_globals(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The section on the flags every command takes."""
    with formatter.section("Global options (before or after the verb)"):
        formatter.write_dl([record for option in _global_options() if (record := option.get_help_record(ctx))])


pass_settings = click.make_pass_decorator(Settings, ensure=True)
