"""What shell completion offers: kinds from the table of kinds, names from the master; silent when it cannot say."""

from __future__ import annotations

import click

from cli.app import Settings

# Somebody waits at the keyboard.
_PATIENCE = 1.0


def kinds_and_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For arguments KIND NAME... and KIND/NAME."""
    from common import kinds

    resource, slash, _ = incomplete.partition("/")
    if slash:
        return [f"{resource}/{name}" for name in _names(ctx, resource)]
    given = ctx.params.get(param.name or "") or ()
    if given and "/" not in given[0]:
        return names(ctx, given[0], incomplete)
    return sorted(kind.plural for kind in kinds.KINDS if kind.plural.startswith(incomplete))


def pods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of pods."""
    return names(ctx, "pods", incomplete)


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of nodes."""
    return names(ctx, "nodes", incomplete)


def names(ctx: click.Context, resource: str, incomplete: str) -> list[str]:
    """Names of objects of one kind that begin like this."""
    return [name for name in _names(ctx, resource) if name.startswith(incomplete)]


def _names(ctx: click.Context, resource: str) -> list[str]:
    from common import kinds
    from common.errors import SampanError

    settings = ctx.find_object(Settings) or Settings()
    try:
        kind = kinds.by_resource(resource)
        with settings.connect(timeout=_PATIENCE) as client:
            return [obj.metadata.name for obj in client.list(kind, settings.namespace).items]
    except (SampanError, click.UsageError):
        return []
