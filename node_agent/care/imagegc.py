"""Which images go, and when: watermarks and the order of removal; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from node_agent.care.pressure import Reading
from node_agent.runtime.seam import ImageSeen


@dataclass(frozen=True)
class Pulled:
    """An image that this agent fetched: its id, by which names, when, and when a container last used it."""

    id: str
    references: tuple[str, ...]
    pulled_at: float
    used_at: float


def to_free(disk: Reading, high: int, low: int) -> int:
    """Bytes to free now: 0 below the high watermark, else what brings the use down to the low one. Percents in use."""
    if disk.capacity <= 0 or high >= 100 or (disk.capacity - disk.available) * 100 < high * disk.capacity:
        return 0
    return max(0, disk.capacity * (100 - low) // 100 - disk.available)


def garbage(
    ours: Iterable[Pulled],
    there: Mapping[str, ImageSeen],
    *,
    used: Set[str],
    wanted: Set[str],
    now: float,
    least_age: float,
    amount: int | None,
) -> list[Pulled]:
    """Images to remove, least recently used first, until `amount` bytes are free (None: all that may go).

    `there`: the images of the engine by id; `used`: ids that any container of the engine, or another image, is made
    of; `wanted`: names that pods of this node ask for. An image that has also a tag which is not ours stays: to
    remove our name would free nothing, and theirs is theirs.
    """
    found: list[Pulled] = []
    freed = 0
    for one in sorted(ours, key=lambda one: (one.used_at, one.pulled_at, one.id)):
        image = there.get(one.id)
        if image is None or one.id in used or now - max(one.pulled_at, one.used_at) < least_age:
            continue
        tags = {name for name in image.names if "@" not in name}
        if tags - {familiar(name) for name in one.references} or wanted & {*image.names, *one.references}:
            continue
        if amount is not None and freed >= amount:
            break
        found.append(one)
        freed += image.size
    return found


def familiar(reference: str) -> str:
    """A name as the engine lists it: with its tag, and without Docker Hub's own host and folder."""
    name = reference.removeprefix("docker.io/").removeprefix("index.docker.io/").removeprefix("library/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
