"""Facts about the machine this node is: who it is, what it has, and at which address others reach it."""

from __future__ import annotations

import platform
import socket
import uuid
from pathlib import Path

from common.version import VERSION
from node_agent.config import AgentConfig
from node_agent.runtime.seam import Machine
from node_agent.storage import Storage
from protos import agent_pb2

# As the kubelet's default (--max-pods).
MAX_PODS = 110
# Kept free for the machine itself, as the kubelet's default hard eviction threshold (memory.available<100Mi).
RESERVED_MEMORY = 100 * 1024 * 1024

_MACHINE_ID = "machine-id"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Reserved for documentation (RFC 5737): nothing is sent, the kernel only picks the way out.
_ELSEWHERE = ("192.0.2.1", 9)


def machine_id(storage: Storage) -> str:
    """Names this node's data directory, so that two agents on one machine are two; made once and kept."""
    kept = storage.load(_MACHINE_ID)
    if kept is None:
        kept = uuid.uuid4().hex.encode()
        storage.save(_MACHINE_ID, kept)
    return kept.decode()


def boot_id() -> str:
    """Changes with every boot of the machine; empty where the kernel does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def local_address(master: str) -> str:
    """The IPv4 address this machine uses towards the master; blocks while the name is looked up.

    For a master on this very machine it is the address towards everywhere else, so that other nodes can use
    it, and the same when the master's name can't be resolved now; 127.0.0.1 when there is no other.
    """
    host, _, port = master.rpartition(":")
    for target in ((host.strip("[]"), int(port)), _ELSEWHERE):
        try:
            address = _way_out(target)
        except OSError:
            continue
        if not address.startswith("127."):
            return address
    return "127.0.0.1"


def _way_out(target: tuple[str, int]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def capacity(cpus: int, memory: int) -> dict[str, str]:
    """What a machine has, as quantities."""
    return {"cpu": str(cpus), "memory": f"{memory // 1024}Ki", "pods": str(MAX_PODS)}


def allocatable(cpus: int, memory: int) -> dict[str, str]:
    """What pods may have of it, as quantities."""
    return capacity(cpus, max(0, memory - RESERVED_MEMORY))


def facts(machine: Machine, *, identity: str, address: str, hostname: str) -> agent_pb2.MachineFacts:
    """What the master is told about a machine when it registers."""
    return agent_pb2.MachineFacts(
        boot_id=boot_id(),
        machine_id=identity,
        kernel=machine.kernel or platform.release(),
        os_image=machine.os_image,
        architecture=_ARCHITECTURES.get(machine.architecture, machine.architecture),
        runtime_version=machine.runtime_version,
        address=address,
        hostname=hostname,
        capacity=capacity(machine.cpus, machine.memory),
        allocatable=allocatable(machine.cpus, machine.memory),
    )


def registration(
    config: AgentConfig, machine: agent_pb2.MachineFacts, *, token: str, credential: str
) -> agent_pb2.RegisterRequest:
    """The request a session begins with."""
    return agent_pb2.RegisterRequest(
        node_name=config.name,
        token=token,
        credential=credential,
        machine=machine,
        labels=dict(config.labels),
        agent_version=VERSION,
    )
