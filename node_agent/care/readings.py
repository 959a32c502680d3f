"""What the machine shows as eviction signals, and figures from a file in their place for drills."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from common.errors import BadRequest
from common.quantity import value
from node_agent.care.pressure import Reading
from node_agent.care.settings import IMAGE_DISK, IMAGE_INODES, MEMORY, NODE_DISK, NODE_INODES, PIDS, SIGNALS
from node_agent.runtime.seam import Machine


def readings_of(machine: Machine) -> dict[str, Reading]:
    """By signal; one whose capacity is 0 is not known (a file system without a fixed number of inodes, say)."""
    found = {
        MEMORY: Reading(machine.memory_available, machine.memory),
        NODE_DISK: Reading(machine.disk_free, machine.disk),
        NODE_INODES: Reading(machine.inodes_free, machine.inodes),
        IMAGE_DISK: Reading(machine.image_disk_free, machine.image_disk),
        IMAGE_INODES: Reading(machine.image_inodes_free, machine.image_inodes),
        PIDS: Reading(machine.pids_max - machine.pids, machine.pids_max),
    }
    return {signal: reading for signal, reading in found.items() if reading.capacity > 0}


def replaced(readings: Mapping[str, Reading], text: str) -> dict[str, Reading]:
    """The readings with what `text` says in their place: JSON, signal -> quantity or percentage available.

    Raises BadRequest, which says what is wrong with it.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise BadRequest('must be a JSON object like {"memory.available": "50Mi"}')
    found = dict(readings)
    for signal, amount in given.items():
        if signal not in SIGNALS:
            raise BadRequest(f"{signal}: must be one of {', '.join(SIGNALS)}")
        found[signal] = _given(signal, str(amount), readings.get(signal))
    return found


def _given(signal: str, amount: str, real: Reading | None) -> Reading:
    capacity = real.capacity if real is not None else 0
    try:
        if amount.endswith("%"):
            # As if there were a hundred, where there is nothing to count.
            capacity = capacity or 100
            return Reading(int(capacity * float(amount[:-1]) / 100), capacity)
        count = value(amount)
    except ValueError:
        raise BadRequest(f'{signal}: must be a quantity (50Mi) or a percentage (5%), got "{amount}"') from None
    return Reading(count, max(capacity, count, 1))


def read_file(path: str) -> str:
    """The drill's figures; empty JSON when there is no such file (the drill is over). Blocks. Raises OSError."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return "{}"
