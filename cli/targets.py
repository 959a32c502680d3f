"""What a user means by "pods", "rc,svc", "pod web db" or "rc/web svc/web"; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common import kinds
from common.errors import BadRequest
from common.kinds import Kind

# `get all`: what a user runs, in kubectl's order; not configuration, not what the master makes by itself.
ALL = ("pods", "replicationcontrollers", "services", "daemonsets", "deployments", "replicasets", "jobs")


@dataclass(frozen=True)
class Target:
    """One kind and the names asked for; no names: all there are."""

    kind: Kind
    names: tuple[str, ...] = ()


def parse(args: Sequence[str]) -> list[Target]:
    """Reads KIND[,KIND] [NAME...] or KIND/NAME... . Raises BadRequest, UnknownKind."""
    if not args:
        known = ", ".join(sorted(kind.plural for kind in kinds.KINDS))
        raise BadRequest(f"say which kind you mean, one of: {known} (for instance `pods`, `rc/web` or `all`)")
    if any("/" in arg for arg in args):
        return _slashes(args)
    names = tuple(dict.fromkeys(args[1:]))
    return [Target(kind, names) for kind in _kinds(args[0])]


def one(text: Sequence[str], default: Kind | None = None) -> tuple[Kind, str]:
    """Exactly one object: "rc/web" or "rc web"; a bare name is of the kind `default`. Raises BadRequest."""
    if len(text) == 1 and "/" not in text[0] and default is not None:
        return default, text[0]
    targets = parse(text)
    if len(targets) != 1 or len(targets[0].names) != 1:
        raise BadRequest(f'name one object, like rc/web or pod/web, got "{" ".join(text)}"')
    return targets[0].kind, targets[0].names[0]


def shown(kind: Kind, name: str) -> str:
    """An object's name in messages: "pod/web", "deployment.apps/web"."""
    return f"{kind.singular}.{kind.group}/{name}" if kind.group else f"{kind.singular}/{name}"


def _kinds(text: str) -> list[Kind]:
    found: list[Kind] = []
    for part in filter(None, text.split(",")):
        found += [kinds.by_resource(name) for name in (ALL if part.lower() == "all" else (part,))]
    if not found:
        raise BadRequest(f'"{text}" names no kind')
    return list(dict.fromkeys(found))


def _slashes(args: Sequence[str]) -> list[Target]:
    names: dict[Kind, list[str]] = {}
    for arg in args:
        resource, slash, name = arg.partition("/")
        if not (resource and slash and name) or "/" in name:
            raise BadRequest(f'"{arg}": where one object is written as KIND/NAME, all must be (like rc/web svc/web)')
        (kind,) = _kinds(resource)[:1]
        if name not in names.setdefault(kind, []):
            names[kind].append(name)
    return [Target(kind, tuple(found)) for kind, found in names.items()]
