"""Rules about a pod's resolver: what dnsConfig may say, and what dnsPolicy needs of it."""

from __future__ import annotations

import ipaddress

from common import names
from master.api.validation.faults import Faults
from protos import core_pb2

# Kubernetes' figures.
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048


def validate_dns(path: str, spec: core_pb2.PodSpec, faults: Faults) -> None:
    config, here = spec.dnsConfig, f"{path}.dnsConfig"
    if spec.dnsPolicy == "None" and not config.nameservers:
        faults.add(f"{here}.nameservers", "is required where dnsPolicy is None (at least one address)")
    if len(config.nameservers) > MAX_NAMESERVERS:
        faults.add(f"{here}.nameservers", f"must be at most {MAX_NAMESERVERS}, got {len(config.nameservers)}")
    for index, server in enumerate(config.nameservers):
        try:
            ipaddress.ip_address(server)
        except ValueError:
            faults.add(f"{here}.nameservers[{index}]", f"must be an IP address (like 10.0.0.1), got {server!r}")
    if len(config.searches) > MAX_SEARCHES:
        faults.add(f"{here}.searches", f"must be at most {MAX_SEARCHES}, got {len(config.searches)}")
    if len(" ".join(config.searches)) > MAX_SEARCH_CHARACTERS:
        faults.add(f"{here}.searches", f"must be at most {MAX_SEARCH_CHARACTERS} characters in all")
    for index, search in enumerate(config.searches):
        if search != ".":
            # A service's own domain (_tcp.web...) may be searched too.
            plain = search.removesuffix(".").replace("_", "")
            faults.check(f"{here}.searches[{index}]", plain, names.subdomain_fault)
    for index, option in enumerate(config.options):
        if not option.name:
            faults.add(f"{here}.options[{index}].name", "is required (like ndots)")
        for field in ("name", "value"):
            if any(letter.isspace() for letter in getattr(option, field)):
                faults.add(f"{here}.options[{index}].{field}", "must be without spaces")
