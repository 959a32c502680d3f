"""Every form has a slice of its peer's beside it, whatever the round and the choice of forms."""

from __future__ import annotations

import pytest

from bench.proxy_turns import AWAY, DIRECT, HAPROXY, NFTABLES, forms, select, turns


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("only", [[], ["asyncio 1"], ["nftables", "nginx"], ["direct", "haproxy"]])
@pytest.mark.parametrize("number", range(12))
def test_each_form_is_beside_its_peer(only: list[str], number: int, baseline: bool) -> None:
    found = select(forms(2, baseline=baseline), only)
    peers = {form.name: form.peer for form in found}
    order = turns(found, number)
    assert set(order) >= {form.name for form in found if form.always}
    for at, name in enumerate(order):
        beside = {order[near] for near in (at - 1, at + 1) if 0 <= near < len(order)}
        if peers[name] in peers and name != HAPROXY:
            assert peers[name] in beside, order
        assert name not in beside


def test_the_order_changes_from_round_to_round() -> None:
    found = forms(2)
    assert len({tuple(turns(found, number)) for number in range(12)}) >= 4
    firsts = [turns(found, number)[0] for number in range(4)]
    assert len(set(firsts)) > 1


def test_two_workers_are_named_once_on_one_core() -> None:
    names = [form.name for form in forms(1)]
    assert len(names) == len(set(names))


def test_who_asks_for_one_form_gets_its_peer_too() -> None:
    assert [form.name for form in select(forms(2), ["asyncio 1"])] == [HAPROXY, "Sampan asyncio, 1 worker"]
    away = [DIRECT + AWAY, NFTABLES + AWAY]
    assert [form.name for form in select(forms(2), ["NFTables"])] == [DIRECT, NFTABLES, *away]


def test_an_unknown_word_names_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"no form is called 'caddy'.*sampan nftables"):
        select(forms(2), ["caddy"])
