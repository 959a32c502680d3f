"""The table: chained changes, gaps before anything is touched, bad input by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint, NodeInfo, Route, RoutePort, node_to_json, route_to_json
from proxy.table import BadTable, Resync, Table, read_delta, read_route, read_snapshot, read_step, table_to_json

endpoint = st.builds(Endpoint, st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.integers(1, 65535))
route_port = st.builds(
    RoutePort,
    st.sampled_from(["", "http"]),
    st.integers(1, 65535),
    st.integers(0, 65535),
    st.lists(endpoint, max_size=3).map(tuple),
    st.sampled_from(["TCP", "UDP"]),
)
routes = st.builds(
    Route,
    st.sampled_from(["a/a", "a/b", "b/a", "b/b"]),
    st.text(max_size=5),
    st.sampled_from(["", "None", "10.96.0.1", "10.96.0.2"]),
    st.lists(route_port, max_size=3, unique_by=lambda port: port.port).map(tuple),
    addresses=st.lists(
        st.builds(Endpoint, st.just("10.0.0.3"), st.just(0), st.sampled_from(["", "n"])), max_size=1
    ).map(tuple),
)


def delta(base: int, revision: int, upserts: list[Route], removed: list[str], epoch: str = "e") -> dict[str, Any]:
    return {
        "epoch": epoch,
        "base": base,
        "revision": revision,
        "upserts": [route_to_json(route) for route in upserts],
        "removed": removed,
    }


@given(st.lists(st.tuples(st.lists(routes, max_size=3), st.sets(st.sampled_from(["a/a", "b/b"]))), max_size=6))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_chained_changes_equal_the_complete_set(changes: list[tuple[list[Route], set[str]]]) -> None:
    table = Table("e", 0, NodeInfo(addresses=("192.168.0.1",)), {})
    model: dict[str, Route] = {}
    for number, (upserts, removed) in enumerate(changes):
        change = table.follow(read_delta(delta(number, number + 1, upserts, sorted(removed))))
        assert change.upserts.keys() | set(change.removed) >= {r.key for r in upserts}
        model.update({route.key: route for route in upserts})
        for key in removed:
            model.pop(key, None)
        assert table.routes == model
        assert read_snapshot(table_to_json(table)) == table


@pytest.mark.parametrize(
    ("held", "change"),
    [
        (Table("e", 1), delta(2, 3, [], [])),
        (Table("e", 3), delta(1, 2, [], [])),
        (Table("other", 1), delta(1, 2, [], [])),
    ],
)
def test_a_gap_asks_for_a_snapshot(held: Table, change: dict[str, Any]) -> None:
    revision = held.revision
    with pytest.raises(Resync):
        held.follow(read_delta(change))
    assert held.revision == revision


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"clusterIP": "fd00::1"}, "clusterIP"),
        ({"clusterIP": "web"}, "clusterIP"),
        ({"ports": [{"name": "", "protocol": "TCP", "port": 99999, "nodePort": 0, "endpoints": []}]}, "ports[0].port"),
        ({"ports": [{"name": "", "protocol": "TCP", "port": 1, "nodePort": -1, "endpoints": []}]}, "nodePort"),
        (
            {"ports": [{"name": "", "protocol": "TCP", "port": 1, "nodePort": 0, "endpoints": [["host.name", 1]]}]},
            "endpoints",
        ),
        ({"ports": [{"port": 1}]}, "name"),
        ({"ports": 3}, "a/b"),
    ],
)
def test_a_bad_route_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(BadTable) as caught:
        read_route({"key": "a/b", "uid": "u", "clusterIP": "10.96.0.1", "ports": [], **change})
    assert field in str(caught.value)


@given(st.lists(routes, max_size=4), st.lists(routes, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_step_leads_from_any_table_to_any_other(before: list[Route], after: list[Route]) -> None:
    old = Table("e", 1, NodeInfo(), {route.key: route for route in before})
    new = Table("f", 9, NodeInfo(name="n"), {route.key: route for route in after})
    change = new.since(old)
    upserts = [route_to_json(route) for route in change.upserts.values()]
    data = {"epoch": "f", "revision": 9, "node": node_to_json(new.node), "upserts": upserts}
    assert read_step(old, {**data, "removed": list(change.removed)}) == new
