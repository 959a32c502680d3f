"""resolv.conf: what a resolver would read, and back."""

from __future__ import annotations

from common.resolvconf import ResolvConf, is_loopback, parse, render

TEXT = """
# made by hand
domain old.example
nameserver 192.0.2.1 # the first
nameserver fe80::1%eth0
nameserver name.example
nameserver 192.0.2.1
search a.example b.example ; comment
options ndots:2 timeout:1
options rotate
sortlist 1.2.3.4
nameserver
"""


def test_what_is_read() -> None:
    assert parse(TEXT) == ResolvConf(
        ("192.0.2.1", "fe80::1%eth0"), ("a.example", "b.example"), ("ndots:2", "timeout:1", "rotate")
    )
    assert parse("domain one.example two").searches == ("one.example",)


def test_what_is_written_is_read_back() -> None:
    for conf in (parse(TEXT), ResolvConf(), ResolvConf(("::1",))):
        assert parse(render(conf)) == conf


def test_loopback() -> None:
    assert [is_loopback(a) for a in ("127.0.0.53", "::1", "192.0.2.1", "fe80::1%eth0")] == [True, True, False, False]
