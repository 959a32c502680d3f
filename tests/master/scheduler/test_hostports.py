"""Host ports: each address of a node gives a port once, and no address stands for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.scheduler.hostports import Port, PortBook, clash, host_ports, told
from protos import core_pb2

ALL, ONE, OTHER = ("TCP", 80, ""), ("TCP", 80, "10.0.0.1"), ("TCP", 80, "10.0.0.2")
PORTS = (ALL, ONE, OTHER, ("UDP", 80, ""), ("TCP", 81, "10.0.0.1"))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (ALL, ALL, True),
        (ALL, ONE, True),
        (ONE, ONE, True),
        (ONE, OTHER, False),
        (ALL, ("UDP", 80, ""), False),
        (ONE, ("TCP", 81, "10.0.0.1"), False),
    ],
)
def test_clash(one: Port, other: Port, expected: bool) -> None:
    assert clash(one, other) is clash(other, one) is expected


def test_read_from_containers() -> None:
    container = core_pb2.Container()
    container.ports.add(containerPort=1)
    container.ports.add(containerPort=1, hostPort=80, hostIP="0.0.0.0")
    container.ports.add(containerPort=1, hostPort=80, hostIP="10.0.0.1", protocol="UDP")
    assert list(host_ports([container])) == [ALL, ("UDP", 80, "10.0.0.1")]
    assert [told(port) for port in (ALL, ONE, ("TCP", 80, "::1"))] == ["80/TCP", "10.0.0.1:80/TCP", "[::1]:80/TCP"]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(PORTS), st.integers(0, 1)), max_size=30))
def test_the_book_says_what_the_rule_says(steps: list[tuple[bool, Port, int]]) -> None:
    book, held = PortBook(), dict[tuple[Port, int], str]()
    for number, (taken, port, row) in enumerate(steps):
        if taken:
            book.take(port, row, str(number))
            held[port, row] = str(number)
        else:
            book.give(port, row)
            held.pop((port, row), None)
        for asked in PORTS:
            for at in (0, 1):
                users = {user for (one, there), user in held.items() if there == at and clash(one, asked)}
                assert (book.user(asked, at) in users) if users else (book.user(asked, at) is None)
                assert (at in set(book.rows(asked))) is bool(users)
