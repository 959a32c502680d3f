"""Manifest files to checked documents: everything is read and checked before anything is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import kinds, manifest, yamldoc
from common.errors import BadRequest, Fault, Invalid
from common.kinds import Kind, Resource

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Item:
    """One object of a file: as it was written, as it was read, and where it stands ("web.yaml:12")."""

    text: str
    message: Resource
    kind: Kind
    source: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.message.metadata.name

    def namespace(self, default: str) -> str:
        """Where the object lives; empty for kinds outside namespaces."""
        return (self.message.metadata.namespace or default) if self.kind.namespaced else ""


class BadManifests(BadRequest):
    """Faults of one or more documents, one a line, each with its place."""


def load(names: Sequence[str], *, recursive: bool = False) -> list[Item]:
    """Every object in the files, directories or standard input ("-"), Namespaces first, otherwise in order.

    Raises BadManifests with the faults of all of them; BadRequest for a path that does not exist or holds nothing.
    """
    items: list[Item] = []
    faults: list[str] = []
    for name in names:
        for source, text in _texts(name, recursive):
            try:
                documents = yamldoc.load(text, source)
            except yamldoc.YamlError as error:
                faults.append(str(error))
                continue
            for document in documents:
                try:
                    items += _items(document)
                except Invalid as error:
                    what = f" {error.subject}" if error.subject not in ("", "manifest") else ""
                    faults += [f"{document}:{what} {fault}" for fault in error.faults]
    if len(faults) == 1:
        raise BadManifests(f"{faults[0]}; nothing was sent")
    if faults:
        lines = "\n".join(f"  * {fault}" for fault in faults)
        raise BadManifests(f"{len(faults)} faults in the manifests, nothing was sent:\n{lines}")
    if not items:
        raise BadRequest(f"no objects in {', '.join(names)}")
    return sorted(items, key=lambda item: item.kind is not kinds.NAMESPACE)


def check_namespaces(items: Iterable[Item], namespace: str) -> None:
    """Where -n is given, every object must live there or say nothing. Raises BadRequest."""
    for item in items:
        own = item.message.metadata.namespace
        if item.kind.namespaced and own and own != namespace:
            raise BadRequest(
                f'{item.source}: {item.kind.kind} "{item.name}" is in namespace "{own}", but -n says "{namespace}": '
                "leave -n out or change one of them"
            )


def _items(document: yamldoc.Document) -> list[Item]:
    found: list[Item] = []
    faults: list[Invalid] = []
    for doc in manifest.expand(document.value):
        try:
            decoded = manifest.from_manifest(doc)
        except Invalid as error:
            faults.append(error)
            continue
        found.append(
            Item(json.dumps(doc, ensure_ascii=False), decoded.message, decoded.kind, str(document), decoded.warnings)
        )
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise Invalid("", tuple(Fault("", f"{error.subject} {fault}") for error in faults for fault in error.faults))
    return found


def _texts(name: str, recursive: bool) -> list[tuple[str, bytes]]:
    if name == "-":
        return [("stdin", sys.stdin.buffer.read())]
    if "://" in name:
        raise BadRequest(f"{name}: addresses are not fetched; pipe it instead: curl … | sampan apply -f -")
    path = Path(name)
    if not path.exists():
        raise BadRequest(f'the path "{name}" does not exist')
    if not path.is_dir():
        return [(name, path.read_bytes())]
    files = sorted(
        file for file in path.glob("**/*" if recursive else "*") if file.suffix in _SUFFIXES and file.is_file()
    )
    if not files:
        hint = "" if recursive else " (-R looks into folders below)"
        raise BadRequest(f'no {", ".join(_SUFFIXES)} files in "{name}"{hint}')
    return [(str(file), file.read_bytes()) for file in files]
