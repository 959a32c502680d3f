"""Where the tests' manifests are, and messages made at random from the descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from common import manifest, yamldoc
from common.scalars import read_object
from common.schema import Field, Shape, schema_of
from common.yamldoc import Document

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests" / "data" / "manifests"
# Kubernetes' own documentation examples lie beside the checkout, not in it.
SHARED = Path(os.environ.get("SAMPAN_MANIFESTS", ROOT.parent / "shared" / "manifests"))


def files(folder: Path) -> list[Path]:
    """The manifests of a folder; none when it is absent."""
    return sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".json"))


def objects(path: Path) -> Iterator[tuple[Document, dict[str, Any]]]:
    """Every object of a file, with the document it stands in."""
    for document in yamldoc.load(path.read_bytes(), path.name):
        for item in manifest.expand(document.value):
            yield document, dict(item)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_QUANTITIES = st.sampled_from(["1", "100m", "128Mi", "1536Mi", "2e3", "7n", "3k", "-5"])


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 4) -> Message:
    """A message with some of its fields set, nested at most ``depth`` deep."""
    message = GetMessageClass(descriptor)()
    fields = [field for field in schema_of(descriptor).fields if depth > 0 or field.shape is not Shape.MESSAGE]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda field: field.name)) if fields else []
    for field in chosen:
        target = getattr(message, field.name)
        if field.is_map:
            for key in draw(st.lists(TEXTS, max_size=2, unique=True)):
                value = draw(_value(field, depth))
                if isinstance(value, Message):
                    target[key].CopyFrom(value)
                else:
                    target[key] = value
        elif field.repeated:
            target.extend(draw(st.lists(_value(field, depth), max_size=2)))
        else:
            value = draw(_value(field, depth))
            if isinstance(value, Message):
                target.CopyFrom(value)
                target.SetInParent()
            else:
                setattr(message, field.name, value)
    return message


def _value(field: Field, depth: int) -> st.SearchStrategy[Any]:
    from google.protobuf.timestamp_pb2 import Timestamp
    from google.protobuf.wrappers_pb2 import StringValue

    from protos.core_pb2 import IntOrString

    numbers = st.integers(-(2**31), 2**31 - 1)
    match field.shape:
        case Shape.TEXT:
            return TEXTS
        case Shape.BYTES:
            return st.binary(max_size=8)
        case Shape.INT32:
            return numbers
        case Shape.INT64:
            return st.integers(-(2**63), 2**63 - 1)
        case Shape.BOOL:
            return st.booleans()
        case Shape.TIME:
            micros = st.integers(0, 999_999) if field.micro else st.just(0)
            seconds = st.integers(-62_135_596_800, 253_402_300_799).filter(bool)
            return st.builds(lambda s, us: Timestamp(seconds=s, nanos=us * 1000), seconds, micros)
        case Shape.QUANTITY:
            return st.builds(lambda text: StringValue(value=text), _QUANTITIES)
        case Shape.INT_OR_STRING:
            return st.one_of(
                st.builds(lambda number: IntOrString(intVal=number), numbers),
                st.builds(lambda text: IntOrString(type=1, strVal=text), TEXTS),
            )
        case Shape.OBJECT:
            return st.builds(read_object, st.dictionaries(TEXTS, st.one_of(TEXTS, numbers), max_size=3))
        case Shape.MESSAGE:
            assert field.child is not None
            return messages(field.child, depth - 1)
