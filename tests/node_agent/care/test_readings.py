"""Signals from a machine's figures, and a drill's in their place."""

from __future__ import annotations

import dataclasses

import pytest

from common.errors import BadRequest
from node_agent.care.pressure import Reading
from node_agent.care.readings import read_file, readings_of, replaced
from tests.node_agent.pods.test_measure import GIB, MACHINE


def test_signals() -> None:
    machine = dataclasses.replace(MACHINE, inodes=100, inodes_free=40, image_disk=GIB, image_disk_free=1)
    assert readings_of(machine) == {
        "memory.available": Reading(2 * GIB, 8 * GIB),
        "nodefs.available": Reading(50 * GIB, 100 * GIB),
        "nodefs.inodesFree": Reading(40, 100),
        "imagefs.available": Reading(1, GIB),
        "pid.available": Reading(900, 1000),
    }


def test_a_drill() -> None:
    found = replaced(readings_of(MACHINE), '{"memory.available": "50Mi", "nodefs.available": "5%"}')
    assert found["memory.available"] == Reading(50 * 1024 * 1024, 8 * GIB)
    assert found["nodefs.available"] == Reading(5 * GIB, 100 * GIB)
    assert found["pid.available"] == Reading(900, 1000)
    assert replaced({}, '{"nodefs.inodesFree": "3%"}') == {"nodefs.inodesFree": Reading(3, 100)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is no JSON"),
        ("[]", "must be a JSON object"),
        ('{"ram": "5%"}', "ram: must be one of memory.available"),
        ('{"memory.available": "much"}', "memory.available: must be a quantity"),
    ],
)
def test_what_is_wrong_with_a_drill(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        replaced({}, text)


def test_no_file_is_no_drill(tmp_path: object) -> None:
    assert read_file(f"{tmp_path}/none.json") == "{}"
