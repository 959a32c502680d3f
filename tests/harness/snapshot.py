"""What a test could leave on the machine, as a value to compare before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.harness.commands import run
from tests.harness.fabric import named_namespaces
from tests.harness.remains import cgroup_folders
from tests.harness.slots import PREFIX, Addresses


@dataclass(frozen=True)
class Leftovers:
    """All empty when nothing of this harness is there."""

    namespaces: tuple[str, ...]
    links: tuple[str, ...]
    routes: tuple[str, ...]
    filters: tuple[str, ...]
    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    files: tuple[str, ...]


NOTHING = Leftovers((), (), (), (), (), (), (), ())


async def leftovers(addresses: Addresses) -> Leftovers:
    """What there is of harness `addresses.index`, and of no other."""
    mine = f"{PREFIX}{addresses.index}"
    subnet = addresses.subnet.removesuffix("0/24")
    routes = (await run(["ip", "-4", "route", "show", "table", "all"])).splitlines()
    filters = (await run(["iptables-save"])).splitlines()
    state = str(addresses.state) + "/"
    return Leftovers(
        namespaces=tuple(name for name in named_namespaces() if name.startswith(f"{mine}-")),
        links=tuple(name for name in _links() if name == mine),
        routes=tuple(line for line in routes if subnet in line),
        filters=tuple(line for line in filters if subnet in line or mine in line.split()),
        processes=_processes(state),
        mounts=tuple(line for line in _text("/proc/self/mountinfo") if state in line or f"/{mine}-" in line),
        cgroups=tuple(str(folder) for folder in cgroup_folders(addresses.cgroup)),
        files=(str(addresses.state),) if _exists(addresses.state) else (),
    )


def _links() -> list[str]:
    return sorted(entry.name for entry in Path("/sys/class/net").iterdir())


def _processes(state: str) -> tuple[str, ...]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if state in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"{process.pid} {line}")
    return tuple(found)


def _text(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _exists(path: Path) -> bool:
    return path.exists()
