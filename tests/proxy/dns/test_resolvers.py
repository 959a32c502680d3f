"""Whom the node asks: from its file, as the file changes, and never the cluster itself."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from proxy.dns.resolvers import Resolvers


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_file_is_followed_and_the_cluster_left_out(tmp_path: Path) -> None:
    path, clock = tmp_path / "resolv.conf", Clock()
    made = Resolvers(path, clock)
    assert made.servers() == ()
    path.write_text("nameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver fe80::1%lo\nsearch x\n")
    made.exclude(IPv4Network("10.96.0.0/16"))
    assert made.servers() == (("192.0.2.1", 53), ("fe80::1%lo", 53))
    path.write_text("nameserver 192.0.2.99\n")
    assert len(made.servers()) == 2  # looked at every few seconds
    clock.now += 3
    assert made.servers() == (("192.0.2.99", 53),)
    path.unlink()
    clock.now += 3
    assert made.servers() == ()


def test_who_fails_goes_last(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    made = Resolvers(path, Clock())
    first, second = made.servers()
    made.failed(second)
    assert made.servers() == (first, second)
    made.failed(first)
    assert made.servers() == (second, first)
