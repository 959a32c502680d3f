"""Facts about the machine."""

from __future__ import annotations

import ipaddress

from node_agent import machine
from node_agent.runtime.seam import Machine
from node_agent.storage import MemoryStorage

SEEN = Machine(
    runtime_version="docker://20.10",
    kernel="6.1",
    os_image="Debian 12",
    architecture="x86_64",
    cpus=2,
    memory=8 * 1024**3,
    memory_available=1,
    cpu_seconds=0.0,
    disk=1,
    disk_free=1,
    pids=1,
    pids_max=2,
)


def test_facts_name_the_architecture_and_quantities_as_kubernetes_does() -> None:
    facts = machine.facts(SEEN, identity="m", address="10.0.0.1", hostname="n")
    assert facts.architecture == "amd64"
    assert dict(facts.capacity) == {"cpu": "2", "memory": "8388608Ki", "pods": "110"}
    assert facts.allocatable["memory"] == "8286208Ki"
    assert facts.boot_id == machine.boot_id() != ""


def test_the_machine_id_stays() -> None:
    storage = MemoryStorage()
    assert machine.machine_id(storage) == machine.machine_id(storage)
    assert machine.machine_id(storage) != machine.machine_id(MemoryStorage())


def test_the_address_towards_a_local_master_is_one_that_others_can_use() -> None:
    ipaddress.IPv4Address(machine.local_address("127.0.0.1:7443"))


def test_a_nameless_master_still_gives_an_address() -> None:
    ipaddress.IPv4Address(machine.local_address("no-such-host.invalid:7443"))
