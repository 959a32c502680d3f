"""Taints as they are written on the command line, and what becomes of a node's own."""

from __future__ import annotations

import pytest

from cli.taints import Mark, Removal, split
from protos import core_pb2


def test_reading() -> None:
    names, wish = split(["n1", "n2", "a=1:NoSchedule", "b:NoExecute", "c:NoSchedule-", "d-", "e=5:NoExecute-"])
    assert names == ["n1", "n2"]
    assert wish.marks == (Mark("a", "1", "NoSchedule"), Mark("b", "", "NoExecute"))
    assert wish.removals == (Removal("c", "NoSchedule"), Removal("d", ""), Removal("e", "NoExecute"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=1", "effect must be one of NoSchedule, PreferNoSchedule, NoExecute"),
        ("a=1:Never", "effect must be one of"),
        ("a:Never-", "effect must be one of"),
        (":NoSchedule", "needs a key"),
    ],
)
def test_what_cannot_be_read(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        split(["n1", text])


def shown(node: core_pb2.Node) -> list[str]:
    return [f"{t.key}={t.value}:{t.effect}" for t in node.spec.taints]


def test_setting_and_removing() -> None:
    node = core_pb2.Node()
    node.metadata.name = "n1"
    split(["a=1:NoSchedule", "a=1:NoExecute"])[1].carry_out(node, overwrite=False)
    split(["a=1:NoSchedule"])[1].carry_out(node, overwrite=False)
    assert shown(node) == ["a=1:NoSchedule", "a=1:NoExecute"]
    with pytest.raises(ValueError, match="node n1 has a taint a with effect NoSchedule already: --overwrite"):
        split(["a=2:NoSchedule"])[1].carry_out(node, overwrite=False)
    split(["a=2:NoSchedule"])[1].carry_out(node, overwrite=True)
    split(["a:NoExecute-"])[1].carry_out(node, overwrite=False)
    assert shown(node) == ["a=2:NoSchedule"]
    split(["a-", "b=1:NoExecute"])[1].carry_out(node, overwrite=False)
    assert shown(node) == ["b=1:NoExecute"]
    with pytest.raises(ValueError, match='node n1 has no taint "a"'):
        split(["a-"])[1].carry_out(node, overwrite=False)
