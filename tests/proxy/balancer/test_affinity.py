"""Client affinity: one endpoint for one client, in every worker, over updates; bounded, and forgotten in time."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint
from proxy.balancer import ClientAffinity

ALL = [Endpoint(f"10.0.0.{number}", 80) for number in range(1, 10)]
sets = st.lists(st.sampled_from(ALL), unique=True, max_size=len(ALL))
clients = st.sampled_from([f"192.168.0.{number}" for number in range(1, 20)])


def made(endpoints: list[Endpoint], timeout: float = 100.0, capacity: int = 1000) -> ClientAffinity:
    balancer = ClientAffinity(timeout, capacity)
    balancer.update(endpoints)
    return balancer


@given(sets, st.permutations(ALL), clients)
def test_workers_agree_whatever_order_they_were_told_in(
    endpoints: list[Endpoint], mixed: list[Endpoint], c: str
) -> None:
    other = made([endpoint for endpoint in mixed if endpoint in endpoints])
    assert made(endpoints).pick(0.0, (), c) == other.pick(0.0, (), c)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_against_a_model(data: st.DataObject) -> None:
    """A client stays while its endpoint is there and works and it comes back in time."""
    balancer = made([], timeout=10.0)
    members: set[Endpoint] = set()
    homes: dict[str, tuple[Endpoint, float]] = {}
    cooling: dict[Endpoint, float] = {}
    now = 1.0
    for _ in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.floats(0, 4))
        match data.draw(st.sampled_from(["update", "pick", "pick", "pick", "fail", "succeed"])):
            case "update":
                members = set(data.draw(sets))
                balancer.update(members)
                homes = {client: home for client, home in homes.items() if home[0] in members}
                cooling = {endpoint: until for endpoint, until in cooling.items() if endpoint in members}
            case "pick":
                client = data.draw(clients)
                picked = balancer.pick(now, (), client)
                assert picked in members if members else picked is None
                home = homes.get(client)
                if home is not None and home[1] > now and cooling.get(home[0], 0.0) <= now:
                    assert picked == home[0]
                if picked is not None:
                    homes[client] = (picked, now + 10.0)
            case "fail":
                endpoint = data.draw(st.sampled_from(ALL))
                balancer.failed(endpoint, now)
                if endpoint in members:
                    cooling[endpoint] = balancer.cooling_until(endpoint)
            case "succeed":
                endpoint = data.draw(st.sampled_from(ALL))
                balancer.succeeded(endpoint)
                cooling.pop(endpoint, None)
        assert balancer.remembered <= 19
        assert set(balancer.endpoints) == members


def test_clients_are_spread() -> None:
    balancer = made(ALL[:4])
    counts = Counter(balancer.pick(0.0, (), f"10.{n // 250}.{n % 250}.7") for n in range(2000))
    assert len(counts) == 4 and min(counts.values()) > 350


def test_new_endpoints_take_no_client_that_is_remembered_and_few_that_are_not() -> None:
    balancer = made(ALL[:4])
    names = [f"10.1.{n // 250}.{n % 250}" for n in range(500)]
    before = {name: balancer.pick(0.0, (), name) for name in names}
    balancer.update(ALL[:5])
    assert {name: balancer.pick(1.0, (), name) for name in names} == before
    fresh = made(ALL[:5])
    moved = [name for name in names if fresh.pick(0.0, (), name) != before[name]]
    assert len(moved) < 160 and all(fresh.pick(0.0, (), name) == ALL[4] for name in moved)


def test_memory_is_bounded_and_forgets_in_time() -> None:
    balancer = made(ALL[:2], timeout=10.0, capacity=5)
    for number in range(50):
        balancer.pick(0.0, (), f"10.0.1.{number}")
    assert balancer.remembered == 5
    balancer.pick(9.0, (), "10.0.1.49")
    balancer.pick(11.0, (), "10.0.1.49")
    assert balancer.remembered == 1


def test_what_was_tried_is_not_picked_again() -> None:
    balancer = made(ALL[:3])
    tried: list[Endpoint] = []
    while (picked := balancer.pick(0.0, tried, "10.0.0.1")) is not None:
        tried.append(picked)
    assert sorted(tried) == ALL[:3]
