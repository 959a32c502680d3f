"""Round robin: even, steady over updates, never a removed or tried endpoint, cooling down and back."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint
from proxy.balancer import COOL_CAP, COOL_FIRST, RoundRobin

ALL = [Endpoint("10.0.0.1", port) for port in range(1, 13)]
sets = st.lists(st.sampled_from(ALL), unique=True, max_size=len(ALL))


def made(endpoints: list[Endpoint]) -> RoundRobin:
    balancer = RoundRobin()
    balancer.update(endpoints)
    return balancer


@given(sets.filter(bool), st.integers(1, 60), st.integers(0, 20))
def test_turns_are_even(endpoints: list[Endpoint], picks: int, start: int) -> None:
    balancer = RoundRobin(start)
    balancer.update(endpoints)
    counts = Counter(balancer.pick(0.0) for _ in range(picks))
    assert max(counts.values()) - min(counts.get(endpoint, 0) for endpoint in endpoints) <= 1


@given(sets, sets, st.integers(0, 20))
def test_an_update_keeps_the_rotation(before: list[Endpoint], after: list[Endpoint], picks: int) -> None:
    balancer, undisturbed = made(before), made(before)
    for _ in range(picks):
        assert balancer.pick(0.0) == undisturbed.pick(0.0)
    balancer.update(after)
    staying = [endpoint for endpoint in undisturbed.endpoints if endpoint in after]
    assert [endpoint for endpoint in balancer.endpoints if endpoint in staying] == staying
    assert not staying or balancer.endpoints[0] == staying[0], "whose turn it was"
    assert set(balancer.endpoints) == set(after)
    then = balancer.endpoints
    balancer.update(reversed(after))
    assert balancer.endpoints == then, "the order in which a set is told does not matter"


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_against_a_model(data: st.DataObject) -> None:
    """Any mix of updates, picks, failures and successes: what is picked is allowed, and None only with reason."""
    balancer = RoundRobin()
    members: set[Endpoint] = set()
    cooling: dict[Endpoint, float] = {}
    now = 0.0
    for _ in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.floats(0, 3))
        match data.draw(st.sampled_from(["update", "pick", "pick", "fail", "succeed"])):
            case "update":
                members = set(data.draw(sets))
                balancer.update(members)
                cooling = {endpoint: until for endpoint, until in cooling.items() if endpoint in members}
            case "pick":
                tried = data.draw(sets)
                picked = balancer.pick(now, tried)
                left = members - set(tried)
                if not left:
                    assert picked is None
                else:
                    assert picked in left
                    good = {endpoint for endpoint in left if cooling.get(endpoint, 0.0) <= now}
                    assert not good or picked in good
            case "fail":
                endpoint = data.draw(st.sampled_from(ALL))
                balancer.failed(endpoint, now)
                if endpoint in members:
                    assert now < balancer.cooling_until(endpoint) <= now + COOL_CAP
                    cooling[endpoint] = balancer.cooling_until(endpoint)
            case "succeed":
                endpoint = data.draw(st.sampled_from(ALL))
                balancer.succeeded(endpoint)
                cooling.pop(endpoint, None)
        assert set(balancer.endpoints) == members
        assert len(balancer) == len(members)


def test_a_failing_endpoint_cools_longer_each_time_and_comes_back() -> None:
    first, second = ALL[:2]
    balancer = made([first, second])
    now, pauses = 0.0, []
    for _ in range(6):
        balancer.failed(first, now)
        pauses.append(balancer.cooling_until(first) - now)
        assert {balancer.pick(now) for _ in range(4)} == {second}
        now = balancer.cooling_until(first)
        assert {balancer.pick(now) for _ in range(2)} == {first, second}
    assert pauses == [COOL_FIRST, 2.0, 4.0, 8.0, COOL_CAP, COOL_CAP]
    balancer.succeeded(first)
    balancer.failed(first, now)
    assert balancer.cooling_until(first) - now == COOL_FIRST


def test_one_outage_seen_by_many_connections_counts_once() -> None:
    balancer = made(ALL[:2])
    for _ in range(50):
        balancer.failed(ALL[0], 1.0)
    assert balancer.cooling_until(ALL[0]) == 1.0 + COOL_FIRST


def test_when_all_cool_the_one_that_is_ready_soonest_is_tried() -> None:
    balancer = made(ALL[:2])
    balancer.failed(ALL[0], 0.0)
    balancer.failed(ALL[1], 0.5)
    assert balancer.pick(0.6) == ALL[0]
    assert balancer.pick(0.6, {ALL[0]}) == ALL[1]
    assert balancer.pick(0.6, set(ALL)) is None


def test_start_turns_the_first_set() -> None:
    balancer = RoundRobin(start=4)
    balancer.update([])
    balancer.update(ALL[:3])
    assert balancer.pick(0.0) == ALL[1]
