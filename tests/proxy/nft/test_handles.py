"""Rules are found again by what is said of them, and by nothing else."""

from __future__ import annotations

import pytest

from proxy.nft import handles, wire
from proxy.nft.skeleton import chain, remove_table, rule
from proxy.nft.wire import Message
from tests.proxy.nft.world import World


@pytest.mark.root
def test_the_kernel_says_which_number_each_rule_has(shared_world: World) -> None:
    table = [Message(0, wire.text(1, "numbers"), wire.CREATE)]
    rules = [rule("numbers", "c", b"", handles.comment(name)) for name in ("a" * 120, "b")]
    shared_world.kernel.commit([*table, chain("numbers", "c"), rule("numbers", "c", b""), *rules])
    try:
        found = dict(handles.read(shared_world.kernel.dump(wire.NFTABLES, handles.ask("numbers", "c"))))
        assert found.keys() == {"a" * 120, "b"} and len(set(found.values())) == 2
        listed = shared_world.node.nft("-a", "list", "chain", "ip", "numbers", "c")
        assert f'comment "b" # handle {found["b"]}' in listed
        more = handles.comment("c") + handles.handle(found["b"])
        shared_world.kernel.commit([rule("numbers", "c", b"", more, wire.REPLACE)])
        found = dict(handles.read(shared_world.kernel.dump(wire.NFTABLES, handles.ask("numbers", "c"))))
        assert found.keys() == {"a" * 120, "c"}
        assert list(handles.read(shared_world.kernel.dump(wire.NFTABLES, handles.ask("numbers", "none")))) == []
    finally:
        shared_world.kernel.commit(remove_table("numbers"))


def test_what_is_no_comment_of_ours_is_passed_over() -> None:
    strange = wire.u64(3, 7) + wire.attribute(7, b"\x01\x02x\0")
    cut = wire.u64(3, 7) + wire.attribute(7, b"\x00\x09x\0")
    assert list(handles.read([strange, cut, wire.u64(3, 7)])) == []
