"""Two engines that must keep the same promises: Docker and the simulated one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from common.errors import SampanError
from node_agent.network.seam import NetworkSpec
from node_agent.runtime.docker import DockerRuntime
from node_agent.runtime.seam import ContainerSpec, Identity, LogOptions, Refused, Runtime, SandboxSpec, Seen
from node_agent.runtime.simulated import Behaviour, Script, SimulatedRuntime
from tests.contract.leftovers import cluster_name, remove_leftovers
from tests.harness.images import BUSYBOX, busybox_archive

MISSING_IMAGE = "localhost:1/sampan-test/missing:1"
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What a container shall do, in words both engines can follow."""

    prints: tuple[str, ...] = ()
    exit_code: int | None = None
    ignores_term: bool = False
    cannot_start: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        if self.cannot_start:
            return ("/no/such/program",)
        lines = [f"echo {shlex.quote(line)}" for line in self.prints]
        trap = "trap '' TERM" if self.ignores_term else "trap 'exit 143' TERM"
        end = [f"exit {self.exit_code}"] if self.exit_code is not None else ["while :; do sleep 0.05; done"]
        return ("sh", "-c", "; ".join([trap, *lines, *end]))


@dataclass
class Engine:
    """A runtime with a network, and the names and numbers a test needs."""

    runtime: Runtime
    cluster: str
    network: str
    prefix: str
    jobs: dict[str, Job] = field(default_factory=dict)
    _hosts: int = 2

    def identity(self, pod: str, container: str = "", *, attempt: int = 0, sandbox: str = "") -> Identity:
        return Identity(
            cluster=self.cluster,
            node="node",
            namespace="default",
            pod=pod,
            uid=f"{pod}-{self.cluster}",
            container=container,
            attempt=attempt,
            crashes=2,
            spec_hash="abc",
            sandbox=sandbox,
            grace=7,
        )

    async def sandbox(self, pod: str) -> str:
        """The id of a running sandbox."""
        self._hosts += 1
        identity = self.identity(pod)
        spec = SandboxSpec(Identity(**{**vars(identity), "ip": f"{self.prefix}.{self._hosts}"}), pod, self.network)
        id = await self.runtime.create_sandbox(spec)
        await self.runtime.start(id)
        return id

    async def container(self, pod: str, sandbox: str, job: Job, *, name: str = "main", attempt: int = 0) -> str:
        """The id of a container that is made, not started."""
        self.jobs[shlex.join(job.command)] = job
        identity = self.identity(pod, name, attempt=attempt, sandbox=sandbox)
        return await self.runtime.create_container(ContainerSpec(identity, BUSYBOX, command=job.command))

    async def alone(self, pod: str, job: Job, ip: str, *, attempt: int = 0) -> str:
        """The id of a container that is its own sandbox, made, not started."""
        self.jobs[shlex.join(job.command)] = job
        identity = Identity(**{**vars(self.identity(pod, "main", attempt=attempt)), "ip": ip})
        place = SandboxSpec(identity, pod, self.network)
        return await self.runtime.create_container(ContainerSpec(identity, BUSYBOX, command=job.command, alone=place))

    async def seen(self, id: str) -> Seen | None:
        return next((one for one in await self.runtime.containers() if one.id == id), None)

    async def until(self, id: str, check: Callable[[Seen], bool]) -> Seen:
        """The container once `check` holds; fails after 60 s."""

        async def look() -> Seen | None:
            seen = await self.seen(id)
            return seen if seen is not None and check(seen) else None

        return await until(look)

    async def output(self, id: str, options: LogOptions | None = None) -> str:
        pieces = [piece async for piece in self.runtime.logs(id, options or LogOptions())]
        return b"".join(pieces).decode()


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 60.0) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def behave(jobs: dict[str, Job]) -> Callable[[ContainerSpec], Behaviour]:
    """The simulated engine's script for the jobs of one test."""

    def one(spec: ContainerSpec) -> Behaviour:
        job = jobs[shlex.join(spec.command)]
        return Behaviour(
            exits_after=None if job.exit_code is None else 0.01,
            exit_code=job.exit_code or 0,
            lines=job.prints,
            ignores_term=job.ignores_term,
            cannot_start="no such file or directory" if job.cannot_start else "",
        )

    return one


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "simulated"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """Cleaned up afterwards, whatever the test left."""
    if request.param == "docker":
        async with docker_engine(tmp_path) as engine:
            yield engine
        return
    jobs: dict[str, Job] = {}
    script = Script(registry=frozenset(), behave=behave(jobs))
    cluster = cluster_name()
    async with _engine(SimulatedRuntime(cluster, "node", script, images=(BUSYBOX,)), cluster) as engine:
        engine.jobs = jobs
        yield engine


@contextlib.asynccontextmanager
async def docker_engine(data_dir: Path) -> AsyncIterator[Engine]:
    """The machine's own engine, with a network of this test's."""
    _prepare_docker()
    cluster = cluster_name()
    async with _engine(DockerRuntime(cluster, "node", str(data_dir)), cluster) as engine:
        yield engine


@contextlib.asynccontextmanager
async def _engine(runtime: Runtime, cluster: str) -> AsyncIterator[Engine]:
    network = f"sampan-{cluster}"
    try:
        yield Engine(runtime, cluster, network, await make_network(runtime, network, some_prefixes()))
    finally:
        await sweep(runtime, network)
        await runtime.close()


async def make_network(runtime: Runtime, name: str, prefixes: Iterator[str]) -> str:
    """Makes it with the first of `prefixes` (three bytes of addresses) that is nobody else's; that prefix."""
    for prefix in prefixes:
        try:
            await runtime.ensure_network(NetworkSpec(name, f"{prefix}.0/28", f"{prefix}.1"))
        except Refused as error:
            if "overlaps" not in str(error):
                raise
            continue
        return prefix
    raise AssertionError("every range of addresses is in use")


def some_prefixes() -> Iterator[str]:
    """RFC 2544's range for benchmarks: it meets no network of the machine but those of other runs."""
    return (f"198.{random.choice((18, 19))}.{random.randrange(256)}" for _ in range(100))


@functools.cache
def _prepare_docker() -> None:
    """Once in a run: no leftovers, and the small image."""
    remove_leftovers()
    known = subprocess.run(["docker", "image", "inspect", BUSYBOX], capture_output=True)
    if known.returncode != 0:
        subprocess.run(["docker", "load", "-i", str(busybox_archive())], check=True, capture_output=True)


async def sweep(runtime: Runtime, network: str) -> None:
    """Removes all containers, volumes and the network of a test's node."""
    for one in await runtime.containers():
        await runtime.remove(one.id)
    for volume in await runtime.volumes():
        await runtime.remove_volume(volume)

    async def removed() -> bool | None:
        # The engine may still be at the end of a container that was on it.
        with contextlib.suppress(SampanError):
            await runtime.remove_network(network)
            return True
        return None

    await until(removed)
