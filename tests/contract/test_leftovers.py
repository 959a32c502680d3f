"""What a killed test run leaves is found and removed; what a living one has is not."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from common.errors import NotFound
from tests.contract.conftest import Job, docker_engine, make_network, some_prefixes
from tests.contract.leftovers import cluster_name, docker, is_left_over, remove_leftovers
from tests.harness.images import BUSYBOX


def test_only_names_of_dead_processes_are_left_over() -> None:
    own = cluster_name()
    assert not is_left_over(own)
    assert is_left_over(own.replace(f"-{os.getpid()}-", "-4194305-")), "a process that never was"
    ticks = own.split("-")[2]
    assert is_left_over(own.replace(f"-{ticks}-", "-1-")), "another process with the same number"
    assert not is_left_over("contract") and not is_left_over("production")


@pytest.mark.docker
async def test_a_dead_runs_things_go_and_a_living_ones_stay(tmp_path: Path) -> None:
    async with docker_engine(tmp_path) as engine:
        sandbox = await engine.sandbox("kept")
        await engine.container("kept", sandbox, Job())
        dead = f"contract-4194305-1-{engine.cluster[-8:]}"
        await make_network(engine.runtime, f"sampan-{dead}", some_prefixes())
        label = f"sampan.dev/cluster={dead}"
        docker("create", "--label", label, "--network", f"sampan-{dead}", BUSYBOX, "true")
        assert docker("ps", "-aq", "--filter", f"label={label}")
        remove_leftovers()
        with pytest.raises(NotFound):
            await engine.runtime.network_bridge(f"sampan-{dead}")
        assert not docker("ps", "-aq", "--filter", f"label={label}")
        assert len(await engine.runtime.containers()) == 2
        assert await engine.runtime.network_bridge(engine.network)


@pytest.mark.docker
async def test_a_range_that_somebody_has_is_left_to_him(tmp_path: Path) -> None:
    async with docker_engine(tmp_path) as engine:
        name = f"{engine.network}-b"
        try:
            prefix = await make_network(engine.runtime, name, chain([engine.prefix], some_prefixes()))
        finally:
            await engine.runtime.remove_network(name)
        assert prefix != engine.prefix
