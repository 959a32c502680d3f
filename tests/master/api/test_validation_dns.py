"""dnsPolicy and dnsConfig: each fault under its own path."""

from __future__ import annotations

from typing import Any

import pytest

from master.api.validation.dns import validate_dns
from master.api.validation.faults import Faults
from protos import core_pb2

GOOD: dict[str, Any] = {
    "nameservers": ["192.0.2.1", "2001:db8::1"],
    "searches": ["a.example", "b.example.", "."],
    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
}


def faults(policy: str, **config: Any) -> list[tuple[str, str]]:
    spec = core_pb2.PodSpec(dnsPolicy=policy)
    for field in ("nameservers", "searches"):
        getattr(spec.dnsConfig, field).extend(config.get(field, ()))
    for option in config.get("options", ()):
        spec.dnsConfig.options.add(**option)
    found = Faults()
    validate_dns("spec", spec, found)
    return [(fault.path, fault.message) for fault in found.found]


def test_a_good_one_and_none() -> None:
    assert not faults("None", **GOOD)
    assert not faults("ClusterFirst")


@pytest.mark.parametrize(
    ("policy", "change", "path"),
    [
        ("None", {"nameservers": []}, "spec.dnsConfig.nameservers"),
        ("Default", {"nameservers": ["192.0.2.1"] * 4}, "spec.dnsConfig.nameservers"),
        ("Default", {"nameservers": ["dns.example"]}, "spec.dnsConfig.nameservers[0]"),
        ("Default", {"searches": ["a"] * 33}, "spec.dnsConfig.searches"),
        ("Default", {"searches": ["a." * 100 + "a"] * 11}, "spec.dnsConfig.searches"),
        ("Default", {"searches": ["a", "b c"]}, "spec.dnsConfig.searches[1]"),
        ("Default", {"options": [{"value": "1"}]}, "spec.dnsConfig.options[0].name"),
        ("Default", {"options": [{"name": "a b"}]}, "spec.dnsConfig.options[0].name"),
    ],
)
def test_faults(policy: str, change: dict[str, Any], path: str) -> None:
    found = faults(policy, **{**GOOD, **change})
    assert [where for where, _ in found] == [path], found
