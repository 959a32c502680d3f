"""Variables and quantities of containers, as the command line names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import BadRequest
from common.kinds import CONFIG_MAP, SECRET
from protos.core_pb2 import Container, EnvVar

if TYPE_CHECKING:
    from cli.client import Client


def lines(container: Container) -> list[str]:
    """The variables as NAME=VALUE; those that come from elsewhere as a comment that says from where."""
    found = []
    for source in container.envFrom:
        ref, word = (source.secretRef, "secret") if source.HasField("secretRef") else (source.configMapRef, "configmap")
        found.append(f"# {source.prefix}* from {word} {ref.localObjectReference.name}")
    for one in container.env:
        if not one.HasField("valueFrom"):
            found.append(f"{one.name}={one.value}")
            continue
        place = one.valueFrom
        if place.HasField("fieldRef"):
            text = f"field {place.fieldRef.fieldPath}"
        elif place.HasField("resourceFieldRef"):
            text = f"resource {place.resourceFieldRef.resource}"
        elif place.HasField("secretKeyRef"):
            text = f"secret {place.secretKeyRef.localObjectReference.name}, key {place.secretKeyRef.key}"
        else:
            text = f"configmap {place.configMapKeyRef.localObjectReference.name}, key {place.configMapKeyRef.key}"
        found.append(f"# {one.name} from {text}")
    return found


def change(container: Container, pairs: Sequence[tuple[str, str | None]], made: Sequence[EnvVar]) -> None:
    """Sets, replaces in place, and removes (value None) variables."""
    wanted = [*made, *(EnvVar(name=name, value=value) for name, value in pairs if value is not None)]
    gone = {name for name, value in pairs if value is None}
    kept = [one for one in container.env if one.name not in gone]
    for one in wanted:
        at = next((index for index, old in enumerate(kept) if old.name == one.name), None)
        if at is None:
            kept.append(one)
        else:
            kept[at] = one
    copies = [EnvVar.FromString(one.SerializeToString()) for one in kept]
    del container.env[:]
    container.env.extend(copies)


def from_object(client: Client, namespace: str, text: str, prefix: str) -> list[EnvVar]:
    """A variable for each key of a ConfigMap or Secret, named as a shell can. Raises BadRequest, NotFound."""
    from cli.targets import one

    kind, name = one([text])
    if kind not in (CONFIG_MAP, SECRET):
        raise BadRequest(f"--from: must be configmap/NAME or secret/NAME, got {text}")
    obj = client.get(kind, namespace, name)
    found = []
    for key in sorted(obj.data):
        variable = EnvVar(name=prefix + re.sub(r"[^A-Za-z0-9_]", "_", key).upper())
        place: Any = variable.valueFrom.configMapKeyRef if kind is CONFIG_MAP else variable.valueFrom.secretKeyRef
        place.localObjectReference.name, place.key = name, key
        found.append(variable)
    return found


def quantities(flag: str, text: str) -> dict[str, str]:
    """ "cpu=1,memory=512Mi" as a mapping. Raises BadRequest naming the flag and the part that is wrong."""
    from common import quantity

    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        try:
            if not name or not equals:
                raise ValueError
            quantity.parse_quantity(value)
        except ValueError:
            raise BadRequest(f'{flag}: must be like cpu=500m,memory=256Mi, got "{part}"') from None
        found[name] = value
    return found


def merge(there: MutableMapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Puts quantities into a map of a message; "0" takes the entry out."""
    for name, value in wanted.items():
        if value == "0":
            there.pop(name, None)
        else:
            there[name].value = value
