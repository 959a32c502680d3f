"""What a watch tells after a gap."""

from __future__ import annotations

from cli.client import Listing
from cli.follow import difference
from tests.cli.making import make


def test_only_what_differs_is_told() -> None:
    def config(name: str, revision: str, uid: str = "u") -> object:
        return make("ConfigMap", name=name, metadata={"resourceVersion": revision, "uid": uid})

    seen = {("default", name): config(name, "1") for name in ("same", "changed", "gone", "remade")}
    found = Listing([config("same", "1"), config("changed", "5"), config("new", "6"), config("remade", "7", "v")], "9")
    told = [(change.type, change.obj.metadata.name, change.revision) for change in difference(seen, found)]
    assert told == [
        ("DELETED", "gone", "9"),
        ("MODIFIED", "changed", "9"),
        ("ADDED", "new", "9"),
        ("ADDED", "remade", "9"),
    ]
