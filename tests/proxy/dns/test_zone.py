"""What the cluster's names answer, and that a chain of changes leaves the same as beginning anew."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.routing import Endpoint, Route
from proxy.dns import message as dns
from proxy.dns.message import Question, name_of
from proxy.dns.zone import Answer, Zone
from tests.proxy.dns.support import node, port, service, shown

WEB = service(
    "default/web",
    "10.96.0.5",
    port("http", 80, Endpoint("10.244.1.7", 8080)),
    port("dns", 53, Endpoint("10.244.1.7", 53), protocol="UDP"),
)
DB = service(
    "default/db",
    "",
    port(
        "sql",
        5432,
        Endpoint("10.244.1.5", 5432, hostname="db-0"),
        Endpoint("10.244.2.5", 5432, hostname="db-1"),
        Endpoint("10.244.3.5", 5433),
    ),
)
SVC = "svc.cluster.local"


def zone(*routes: Route) -> Zone:
    made = Zone(node())
    for route in routes:
        made.put(route)
    return made


def look(held: Zone, name: str, type: int = dns.A, turn: int = 0) -> Answer:
    found = held.answer(Question(name_of(name), type), turn)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        (f"web.default.{SVC}", dns.A, ["10.96.0.5"]),
        (f"WEB.Default.{SVC}", dns.A, ["10.96.0.5"]),
        (f"db.default.{SVC}", dns.A, ["10.244.1.5", "10.244.2.5", "10.244.3.5"]),
        (f"db-1.db.default.{SVC}", dns.A, ["10.244.2.5"]),
        (f"10-244-3-5.db.default.{SVC}", dns.A, ["10.244.3.5"]),
        (f"_http._tcp.web.default.{SVC}", dns.SRV, [f"0 100 80 web.default.{SVC}"]),
        (f"_dns._udp.web.default.{SVC}", dns.SRV, [f"0 100 53 web.default.{SVC}"]),
        (
            f"_sql._tcp.db.default.{SVC}",
            dns.SRV,
            [
                f"0 33 5432 db-0.db.default.{SVC}",
                f"0 33 5432 db-1.db.default.{SVC}",
                f"0 33 5433 10-244-3-5.db.default.{SVC}",
            ],
        ),
        ("5.0.96.10.in-addr.arpa", dns.PTR, [f"web.default.{SVC}"]),
        ("5.1.244.10.in-addr.arpa", dns.PTR, [f"db-0.db.default.{SVC}"]),
        ("10-244-9-9.default.pod.cluster.local", dns.A, ["10.244.9.9"]),
        ("ns.dns.cluster.local", dns.A, ["10.96.0.10"]),
        ("dns-version.cluster.local", dns.TXT, [b"\x051.1.0".hex()]),
    ],
)
def test_names_that_are_there(name: str, type: int, expected: list[str]) -> None:
    found = look(zone(WEB, DB), name, type)
    assert found.rcode == dns.NOERROR and not found.authority
    assert [line.split(" ", 2)[2] for line in shown(found.answers)] == expected
    # As it was asked for, so that a client that mixes cases to be safe gets its own back.
    assert {record.name for record in found.answers} == {name_of(name)}
    assert {record.ttl for record in found.answers} == {5}


@pytest.mark.parametrize(
    ("name", "type", "rcode"),
    [
        (f"web.default.{SVC}", dns.AAAA, dns.NOERROR),
        (f"db-0.db.default.{SVC}", dns.AAAA, dns.NOERROR),
        (f"web.default.{SVC}", dns.SRV, dns.NOERROR),
        (f"_http._tcp.web.default.{SVC}", dns.A, dns.NOERROR),
        (f"_tcp.web.default.{SVC}", dns.A, dns.NOERROR),
        (f"default.{SVC}", dns.A, dns.NOERROR),
        (SVC, dns.A, dns.NOERROR),
        ("pod.cluster.local", dns.A, dns.NOERROR),
        ("cluster.local", dns.A, dns.NOERROR),
        ("5.0.96.10.in-addr.arpa", dns.A, dns.NOERROR),
        (f"nothing.default.{SVC}", dns.A, dns.NXDOMAIN),
        (f"web.nowhere.{SVC}", dns.A, dns.NXDOMAIN),
        (f"nowhere.{SVC}", dns.A, dns.NXDOMAIN),
        (f"*.default.{SVC}", dns.A, dns.NXDOMAIN),
        (f"x.web.default.{SVC}", dns.A, dns.NXDOMAIN),
        (f"_sctp.web.default.{SVC}", dns.A, dns.NXDOMAIN),
        (f"_other._tcp.web.default.{SVC}", dns.SRV, dns.NXDOMAIN),
        (f"10-244-1-5.db.default.{SVC}", dns.A, dns.NXDOMAIN),
        (f"a.b.c.d.e.{SVC}", dns.A, dns.NXDOMAIN),
        ("other.cluster.local", dns.A, dns.NXDOMAIN),
        ("8-8-8-8.default.pod.cluster.local", dns.A, dns.NXDOMAIN),
        ("10-244-1.default.pod.cluster.local", dns.A, dns.NXDOMAIN),
        ("6.0.96.10.in-addr.arpa", dns.PTR, dns.NXDOMAIN),
        ("9.9.244.10.in-addr.arpa", dns.PTR, dns.NXDOMAIN),
    ],
)
def test_no_such_record_and_no_such_name(name: str, type: int, rcode: int) -> None:
    found = look(zone(WEB, DB), name, type)
    assert (found.rcode, found.answers) == (rcode, ())
    (soa,) = found.authority
    assert soa.type == dns.SOA and soa.ttl == 5
    # A resolver keeps the "no" for the SOA's name only if that lies above what was asked for.
    assert dns.lower(name_of(name))[-len(soa.name) :] == soa.name


@pytest.mark.parametrize(
    "name", ["example.com", "local", "", "xcluster.local", "1.1.168.192.in-addr.arpa", "10.in-addr.arpa"]
)
def test_names_of_others(name: str) -> None:
    assert zone(WEB, DB).answer(Question(name_of(name), dns.A)) is None


def test_a_headless_set_takes_turns() -> None:
    held = zone(DB)
    firsts = [shown(look(held, f"db.default.{SVC}", turn=turn).answers)[0].split()[-1] for turn in range(4)]
    assert firsts == ["10.244.1.5", "10.244.2.5", "10.244.3.5", "10.244.1.5"]


def test_a_headless_set_without_ports_has_addresses_and_no_srv() -> None:
    ends = (Endpoint("10.244.1.5", 0, hostname="db-0"), Endpoint("10.244.3.5", 0))
    held = zone(replace(service("default/set", "None"), addresses=ends))
    assert shown(look(held, f"set.default.{SVC}").answers) == [
        f"set.default.{SVC} A 10.244.1.5",
        f"set.default.{SVC} A 10.244.3.5",
    ]
    assert shown(look(held, f"db-0.set.default.{SVC}").answers) == [f"db-0.set.default.{SVC} A 10.244.1.5"]
    assert shown(look(held, f"10-244-3-5.set.default.{SVC}").answers)[0].endswith("A 10.244.3.5")
    assert shown(look(held, "5.1.244.10.in-addr.arpa", dns.PTR).answers)[0].endswith(f"PTR db-0.set.default.{SVC}")
    assert look(held, f"_x._tcp.set.default.{SVC}", dns.SRV).rcode == dns.NXDOMAIN
    held.put(service("default/set", "None"))
    assert look(held, f"set.default.{SVC}").rcode == dns.NXDOMAIN


def test_srv_brings_the_addresses_along() -> None:
    found = look(zone(DB), f"_sql._tcp.db.default.{SVC}", dns.SRV)
    assert shown(found.additional)[0] == f"db-0.db.default.{SVC} A 10.244.1.5"
    assert len(found.additional) == 3


def test_a_headless_service_without_ready_endpoints_does_not_exist() -> None:
    held = zone(service("default/db", "", port("sql", 5432)))
    assert look(held, f"db.default.{SVC}").rcode == dns.NXDOMAIN
    assert look(held, f"_sql._tcp.db.default.{SVC}", dns.SRV).rcode == dns.NXDOMAIN


def test_external_names() -> None:
    held = zone(
        WEB,
        service("default/out", external="www.Example.com."),
        service("default/in", external=f"web.default.{SVC}"),
        service("default/twice", external=f"out.default.{SVC}"),
        service("default/gone", external=f"no.default.{SVC}"),
        service("default/one", external=f"two.default.{SVC}"),
        service("default/two", external=f"one.default.{SVC}"),
        service("default/odd", external="a..b"),
    )
    out = look(held, f"out.default.{SVC}")
    assert out.elsewhere == Question(name_of("www.Example.com"), dns.A)
    assert shown(out.answers) == [f"out.default.{SVC} CNAME www.Example.com"]
    assert look(held, f"out.default.{SVC}", dns.CNAME).elsewhere is None
    inside = look(held, f"in.default.{SVC}")
    assert shown(inside.answers) == [f"in.default.{SVC} CNAME web.default.{SVC}", f"web.default.{SVC} A 10.96.0.5"]
    assert inside.elsewhere is None
    empty = look(held, f"in.default.{SVC}", dns.AAAA)
    assert (empty.rcode, len(empty.answers), len(empty.authority)) == (dns.NOERROR, 1, 1)
    twice = look(held, f"twice.default.{SVC}")
    assert len(twice.answers) == 2 and twice.elsewhere is not None
    assert look(held, f"gone.default.{SVC}").rcode == dns.NXDOMAIN
    assert look(held, f"one.default.{SVC}").rcode == dns.SERVFAIL
    assert look(held, f"odd.default.{SVC}").rcode == dns.SERVFAIL
    assert look(held, f"x.out.default.{SVC}").rcode == dns.NXDOMAIN


def test_a_pod_of_two_headless_services_has_both_names() -> None:
    end = Endpoint("10.244.1.5", 1, hostname="p")
    held = zone(service("a/one", "", port("x", 1, end)), service("b/two", "", port("y", 1, end)))
    found = look(held, "5.1.244.10.in-addr.arpa", dns.PTR)
    assert [line.split()[-1] for line in shown(found.answers)] == [f"p.one.a.{SVC}", f"p.two.b.{SVC}"]
    held.remove("a/one")
    assert len(look(held, "5.1.244.10.in-addr.arpa", dns.PTR).answers) == 1
    assert look(held, f"a.{SVC}").rcode == dns.NXDOMAIN


ends = st.builds(
    Endpoint,
    st.sampled_from(["10.244.0.1", "10.244.0.2"]),
    st.integers(1, 3),
    hostname=st.sampled_from(["", "p-0", "no name"]),
)
routes = st.builds(
    service,
    st.sampled_from(["a/a", "a/b", "b/a"]),
    st.sampled_from(["", "None", "10.96.0.1", "10.96.0.2"]),
    st.builds(port, st.sampled_from(["", "http"]), st.integers(1, 3), ends, ends),
    external=st.sampled_from(["", "", "web.example"]),
)


@given(st.lists(routes | st.sampled_from(["a/a", "a/b", "b/a"]), max_size=12))
@settings(max_examples=150, deadline=None)
def test_changes_leave_what_a_new_zone_would_hold(changes: list[Route | str]) -> None:
    held = zone()
    model: dict[str, Route] = {}
    for change in changes:
        if isinstance(change, str):
            held.remove(change)
            model.pop(change, None)
        else:
            held.put(change)
            model[change.key] = change
    fresh = zone(*model.values())
    below = [
        f"{label}{name}.{space}.{SVC}"
        for label in ("", "p-0.", "10-244-0-1.", "_http._tcp.")
        for name in "ab"
        for space in "ab"
    ]
    backward = [f"{ip}.in-addr.arpa" for ip in ("1.0.96.10", "2.0.96.10", "1.0.244.10", "2.0.244.10")]
    for name in (*below, *backward, f"a.{SVC}", f"b.{SVC}"):
        for type in (dns.A, dns.SRV, dns.PTR):
            assert held.answer(Question(name_of(name), type)) == fresh.answer(Question(name_of(name), type))
    if not model:
        assert not held._reverse and not held._namespaces


def test_a_change_costs_what_it_changes() -> None:
    """One service more among 10,000 costs no more than among 100 (tenfold leaves room for the machine's moods)."""

    def cost(count: int) -> float:
        held = zone(*(service(f"n{i % 50}/s{i}", f"10.96.{i // 250}.{i % 250}") for i in range(count)))
        times = []
        for _ in range(50):
            start = time.perf_counter()
            held.put(WEB)
            held.remove("default/web")
            times.append(time.perf_counter() - start)
        # The quickest: other programs run too.
        return min(times)

    assert cost(10_000) < 10 * cost(100) + 0.0001
