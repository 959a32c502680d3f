"""The objects a command is about: by name, by label selector, or all of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli import targets
from cli.client import Client
from common.errors import BadRequest
from common.kinds import Kind


def pick(
    client: Client, what: Sequence[str], namespace: str, *, labels: str = "", fields: str = "", every: bool = False
) -> list[tuple[Kind, Any]]:
    """The objects with their kinds. Raises BadRequest when it is not clear which; NotFound for a missing name."""
    found: list[tuple[Kind, Any]] = []
    for target in targets.parse(what):
        if target.names and (labels or fields or every):
            raise BadRequest("objects are chosen by name, or by -l, --field-selector and --all, not both")
        if target.names:
            found += [(target.kind, client.get(target.kind, namespace, name)) for name in target.names]
        elif labels or fields or every:
            listing = client.list(target.kind, namespace, labels=labels, fields=fields)
            found += [(target.kind, obj) for obj in listing.items]
        else:
            raise BadRequest(
                f"say which {target.kind.plural}: names, -l LABELS, or --all for every one in the namespace"
            )
    return found
