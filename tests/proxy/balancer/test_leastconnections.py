"""Least connections: never more than the least loaded allows, over updates, failures and removed endpoints."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint
from proxy.balancer import LeastConnections

ALL = [Endpoint("10.0.0.1", port) for port in range(1, 7)]
sets = st.lists(st.sampled_from(ALL), unique=True, max_size=len(ALL))


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_against_a_model(data: st.DataObject) -> None:
    balancer = LeastConnections()
    members: set[Endpoint] = set()
    loads: Counter[Endpoint] = Counter()
    cooling: dict[Endpoint, float] = {}
    now = 1.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 3))
        match data.draw(st.sampled_from(["update", "pick", "pick", "end", "fail", "succeed"])):
            case "update":
                members = set(data.draw(sets))
                balancer.update(members)
                cooling = {endpoint: until for endpoint, until in cooling.items() if endpoint in members}
            case "pick":
                tried = data.draw(sets)
                picked = balancer.pick(now, tried)
                left = members - set(tried)
                good = {endpoint for endpoint in left if cooling.get(endpoint, 0.0) <= now}
                assert (picked is None) == (not left)
                if picked is not None:
                    assert picked in (good or left)
                    if good:
                        assert loads[picked] == min(loads[endpoint] for endpoint in good)
                    loads[picked] += 1
            case "end" if +loads:
                endpoint = data.draw(st.sampled_from(sorted(+loads)))
                balancer.released(endpoint)
                loads[endpoint] -= 1
            case "fail" if +loads:
                endpoint = data.draw(st.sampled_from(sorted(+loads)))
                balancer.failed(endpoint, now)
                loads[endpoint] -= 1
                if endpoint in members:
                    cooling[endpoint] = balancer.cooling_until(endpoint)
            case "succeed":
                endpoint = data.draw(st.sampled_from(ALL))
                balancer.succeeded(endpoint)
                cooling.pop(endpoint, None)
        assert set(balancer.endpoints) == members
        assert all(balancer.load(endpoint) == loads[endpoint] for endpoint in ALL)


def test_equals_take_turns() -> None:
    balancer = LeastConnections()
    balancer.update(ALL[:3])
    for _ in range(3):
        for endpoint in ALL[:3]:
            picked = balancer.pick(0.0)
            assert picked == endpoint
            balancer.released(endpoint)
