"""What workers share: strict turns whoever is asked, over updates and deaths; loads of all workers together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint
from proxy.plan import Moves, PortKey, Serving
from proxy.service import Drains, ServicePort
from proxy.workers.board import SLOTS, Assignments, Board, Shares

ALL = [Endpoint("10.0.0.1", port) for port in range(1, 9)]
KEY = PortKey("default/web", 80)
sets = st.lists(st.sampled_from(ALL), unique=True, min_size=1, max_size=len(ALL))


class Office:
    """A control process and its workers, in one process but each with a mapping of its own."""

    def __init__(self, workers: int, balance: str = "RoundRobin") -> None:
        self.board = Board.make(workers)
        self.assignments = Assignments(self.board)
        self.balance = balance
        self.serving: Serving | None = None
        self.ports: list[ServicePort | None] = [None] * workers
        self.shares = [Shares() for _ in range(workers)]
        for number in range(workers):
            self.begin(number)

    def begin(self, worker: int) -> None:
        """A worker starts, or another one in its place."""
        shares = self.shares[worker] = Shares()
        shares.board = Board(self.board.descriptor, self.board.workers, worker)
        shares.learn(self.assignments.all())
        if self.serving is not None:
            self.ports[worker] = ServicePort(KEY, self.serving, Drains(lambda: None), shares.get(KEY))

    def serve(self, endpoints: list[Endpoint]) -> None:
        serving = self.serving = Serving("http", "uid", tuple(endpoints), balance=self.balance)
        told = self.assignments.follow(Moves({}, (), {KEY: serving}, ()))
        for worker, shares in enumerate(self.shares):
            shares.learn(told)
            port = self.ports[worker]
            if port is None:
                self.ports[worker] = ServicePort(KEY, serving, Drains(lambda: None), shares.get(KEY))
            else:
                port.update(serving, shares.get(KEY))

    def die(self, worker: int) -> None:
        self.assignments.died(worker)
        self.begin(worker)

    def port(self, worker: int) -> ServicePort:
        port = self.ports[worker]
        assert port is not None
        return port

    def pick(self, worker: int) -> Endpoint:
        picked = self.port(worker).balancer.pick(0.0)
        assert picked is not None
        return picked


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office(2)
    yield made
    made.board.close()


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_after_the_other_is_strictly_in_turn(data: st.DataObject) -> None:
    """Whichever worker is asked, replaced or told of other endpoints in between."""
    office = Office(data.draw(st.integers(1, 4)))
    try:
        workers = st.integers(0, office.board.workers - 1)
        endpoints = data.draw(sets)
        office.serve(endpoints)
        due: list[Endpoint] | None = None  # in the order of turns
        for _ in range(data.draw(st.integers(1, 25))):
            match data.draw(st.sampled_from(["pick", "pick", "pick", "die", "update"])):
                case "pick":
                    picked = office.pick(data.draw(workers))
                    if due is not None:
                        assert picked == due[0]
                    order = sorted(endpoints, key=lambda endpoint: endpoint.port)
                    place = order.index(picked) + 1
                    due = order[place:] + order[:place]
                case "die":
                    office.die(data.draw(workers))
                case "update":
                    endpoints = data.draw(sets)
                    office.serve(endpoints)
                    staying = [endpoint for endpoint in due or () if endpoint in endpoints]
                    if due is not None and staying:
                        order = sorted(endpoints, key=lambda endpoint: endpoint.port)
                        place = order.index(staying[0])
                        due = order[place:] + order[:place]
                    else:
                        due = None
    finally:
        office.board.close()


def test_twelve_over_four(office: Office) -> None:
    office.serve(ALL[:4])
    counts = Counter(office.pick(number % 3 % 2) for number in range(12))
    assert set(counts.values()) == {3}


def test_least_connections_over_all_workers() -> None:
    office = Office(3, "LeastConnections")
    try:
        office.serve(ALL[:3])
        counts = Counter(office.pick(0) for _ in range(6))
        assert set(counts.values()) == {2}
        office.port(0).balancer.released(ALL[1])
        assert office.pick(2) == ALL[1], "another worker knows"
        # A worker dies: what it carried no longer counts, what others carry does.
        office.die(0)
        assert {office.pick(1), office.pick(1)} == {ALL[0], ALL[2]}
        # Removed and back: what is still open there counts.
        office.serve(ALL[:2])
        office.serve(ALL[:3])
        assert Counter(office.pick(0) for _ in range(3)) == Counter(ALL[:3])
    finally:
        office.board.close()


def test_slots_of_what_has_left_are_used_again_and_none_is_no_slot(office: Office) -> None:
    def keys(name: str, count: int) -> list[PortKey]:
        return [PortKey(f"{name}/{number}", 80) for number in range(count)]

    serving = Serving("http", "uid", tuple(ALL[:1]))
    first = office.assignments.follow(Moves({}, (), dict.fromkeys(keys("a", SLOTS), serving), ()))
    assert len({entry[4] for entry in first}) == SLOTS
    (extra,) = keys("b", 1)
    assert office.assignments.follow(Moves({}, (), {extra: serving}, ())) == []
    told = office.assignments.follow(Moves({}, (), {extra: serving}, tuple(keys("a", 1))))
    assert [entry[0] for entry in told] == ["b/0"]
    office.shares[0].learn(told)
    assert office.shares[0].get(extra) is not None
    assert office.shares[0].get(keys("a", 2)[1]) is None, "what it was not told of it takes turns of by itself"
