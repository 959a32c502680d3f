from __future__ import annotations

from common.clusterdns import dns_address


def test_the_tenth_address_of_the_service_range() -> None:
    assert dns_address("10.96.0.0/16") == "10.96.0.10"
