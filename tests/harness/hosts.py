"""N real Docker hosts on one machine: a network namespace and an engine each, on one switch, with no way outward."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from tests.harness.commands import CommandFailed, eventually, run
from tests.harness.fabric import Fabric
from tests.harness.images import BUSYBOX, archive_of
from tests.harness.process import Process, netns_path
from tests.harness.remains import (
    forget_slow_containerd,
    kill_recorded_containerd,
    power_off,
    remove_cgroups,
    unmount_below,
)
from tests.harness.slots import Addresses, Claim, claim_data_root, claim_index

# dockerd gives its containerd 15 s to start and then ends with these words; a machine that is busy takes longer.
_TOO_SLOW, _ENGINE_STARTS = "timeout waiting for containerd to start", 5


class Host:
    """One Docker host. Its engine is a real dockerd with its own data, its network a namespace of its own."""

    def __init__(self, number: int, fabric: Fabric, engine_options: Sequence[str], link: int = 1) -> None:
        self.number = number
        self.name = f"node{number}"
        self.link = link
        addresses = fabric.addresses
        self.address = addresses.host_address(number, link)
        self.netns = addresses.host_netns(number)
        self.state = addresses.state / self.name
        self.socket = self.state / "docker.sock"
        self.docker_url = f"unix://{self.socket}"
        self.cgroup = f"{addresses.cgroup}/{self.name}"
        self._containerd = self.state / "exec" / "containerd" / "containerd.pid"
        self._fabric = fabric
        self._port = ""
        self._options = list(engine_options)
        self._data, self._data_claim = claim_data_root()
        # Of a killed harness that had made a swarm: with that, an engine at another address does not start.
        shutil.rmtree(self._data / "swarm", ignore_errors=True)
        self.state.mkdir(parents=True)
        (self.state / "daemon.json").write_text("{}")
        self.engine = Process("dockerd", self._engine_command(), folder=self.state, netns=self.netns)

    def _engine_command(self) -> list[str]:
        return [
            "dockerd",
            *("--host", self.docker_url),
            *("--data-root", str(self._data)),
            *("--exec-root", str(self.state / "exec")),
            *("--pidfile", str(self.state / "docker.pid")),
            # Not the machine's own settings.
            *("--config-file", str(self.state / "daemon.json")),
            # All containers of this host below one cgroup of ours: that is how none of their processes is missed.
            *("--cgroup-parent", f"/{self.cgroup}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--log-level", "warn"),
            *self._options,
        ]

    @property
    def up(self) -> bool:
        """True between `boot()` and `kill()`."""
        return netns_path(self.netns).exists()

    async def boot(self) -> None:
        """Switches it on: namespace, cable, engine. Containers that it had are there, stopped, as after a power cut."""
        self._port = await self._fabric.plug(self.netns, self.address, self.link)
        await self.start_engine()

    async def start_engine(self) -> None:
        """Starts dockerd and waits until it answers.

        Raises AssertionError when it does not, RuntimeError with its log's end when it has ended.
        """
        for _ in range(_ENGINE_STARTS - 1):
            try:
                return await self._start_engine()
            except RuntimeError:
                if _TOO_SLOW not in self.engine.tail(1):
                    raise
                await forget_slow_containerd(self._containerd)
        await self._start_engine()

    async def _start_engine(self) -> None:
        # What an engine that was killed leaves there would stop the next one.
        (self.state / "docker.pid").unlink(missing_ok=True)
        self.engine.start()
        await eventually(self._answers, within=90, what=f"dockerd of {self.name} answers", ignore=(CommandFailed,))

    async def _answers(self) -> bool:
        if not self.engine.running:
            raise RuntimeError(f"dockerd of {self.name} ended:\n{self.engine.tail()}")
        if not self.socket.exists():
            return False
        await self.docker("version", "--format", "{{.Server.Version}}", timeout=20)
        return True

    async def kill_engine(self) -> None:
        """SIGKILL to dockerd and its containerd: containers run on; without live-restore the next dockerd ends them."""
        await self.engine.kill()
        await kill_recorded_containerd(self._containerd)

    async def kill(self) -> None:
        """A power cut: all processes, links, routes and packet filters are gone at once. `boot()` is the way back."""
        if self._port:
            # Silent from the first moment on: no dying process says goodbye to anybody.
            await self._fabric.cut(self._port)
        await power_off(self.netns, self.cgroup)
        await self.engine.kill()
        await self._fabric.unplug(self.netns, self._port)
        self._port = ""
        await unmount_below(self._data, self.state)
        # /run of a real machine is empty after a boot.
        await asyncio.to_thread(shutil.rmtree, self.state / "exec", ignore_errors=True)
        self.socket.unlink(missing_ok=True)

    async def cut(self, *, keep_carrier: bool = False) -> None:
        """Cuts it off the network; with `keep_carrier` it does not notice, packets just vanish."""
        await self._fabric.cut(self._port, keep_carrier=keep_carrier)

    async def restore(self) -> None:
        """Undoes `cut()`."""
        await self._fabric.restore(self._port)

    async def readdress(self, last: int) -> None:
        """Gives the host another address on its link, in the place of the one it has."""
        self.address = self._fabric.addresses.address(last, self.link)
        await self._fabric.readdress(self.netns, self.address, self.link)

    async def run(
        self, command: Sequence[str], *, timeout: float = 30.0, check: bool = True, input: str | None = None
    ) -> str:
        """Runs a command inside the host's network (`["curl", ...]`, `["ip", "route"]`); its standard output."""
        enter = ["nsenter", f"--net={netns_path(self.netns)}", "--"]
        return await run([*enter, *command], timeout=timeout, check=check, input=input)

    async def docker(self, *arguments: str, timeout: float = 60.0, check: bool = True) -> str:
        """Runs the docker client against this host's engine; its standard output without the last line end."""
        return (await run(["docker", "-H", self.docker_url, *arguments], timeout=timeout, check=check)).rstrip("\n")

    async def load(self, image: str) -> None:
        """Brings an image of the machine's own engine (or BUSYBOX) here; quick when it is here already."""
        archive, identity = await archive_of(image)
        have = await self.docker("image", "inspect", "-f", "{{.Id}}", image, check=False)
        if have != identity:
            await self.docker("load", "-q", "-i", str(archive), timeout=180)
            # The image that had the name before.
            await self.docker("image", "prune", "-f")

    async def containers(self, *filters: str) -> list[dict[str, str]]:
        """`docker ps -a` as dictionaries (ID, Names, State, Labels, ...); `filters` like `label=app=web`."""
        arguments = [word for each in filters for word in ("--filter", each)]
        answer = await self.docker("ps", "-a", "--no-trunc", *arguments, "--format", "{{json .}}")
        return [json.loads(line) for line in answer.splitlines()]

    async def empty(self) -> None:
        """Removes all containers, networks and volumes; images stay."""
        if ids := (await self.docker("ps", "-aq")).split():
            await self.docker("rm", "-f", "-v", *ids, timeout=120)
        await self.docker("network", "prune", "-f")
        if volumes := (await self.docker("volume", "ls", "-q")).split():
            await self.docker("volume", "rm", "-f", *volumes)

    def forget_swarm(self) -> None:
        """A kept data folder may hold a Swarm that a bench did not leave: its engine would not start without it."""
        shutil.rmtree(self._data / "swarm", ignore_errors=True)

    async def remove(self) -> None:
        """Switches it off for good; its data folder, with the images in it, is for the next one."""
        try:
            if self.up and self.engine.running:
                with contextlib.suppress(CommandFailed):
                    await self.empty()
                await self.engine.stop()
        finally:
            await self.kill()
            self._data_claim.release()


class Hosts:
    """`async with Hosts(3) as hosts:` three Docker hosts with `images` in them, gone again at the end.

    Needs root. `hosts[0]` is node1. `engine_options` are further words for every dockerd. `links` says on which link
    each host is (1 or 2; left out: 1): with a 2 in it there are two links with a router between. `mtu` is that of all.
    """

    def __init__(
        self,
        count: int,
        *,
        images: Sequence[str] = (BUSYBOX,),
        engine_options: Sequence[str] = (),
        links: Sequence[int] = (),
        mtu: int = 1500,
    ) -> None:
        if os.geteuid() != 0:
            raise PermissionError("the harness makes network namespaces: run it as root")
        self._count = count
        self._images = tuple(images)
        self._options = tuple(engine_options)
        self._links = tuple(links)
        self._mtu = mtu
        self._hosts: list[Host] = []
        self._claim: Claim | None = None
        self.addresses: Addresses
        self.fabric: Fabric

    def __getitem__(self, position: int) -> Host:
        return self._hosts[position]

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    async def __aenter__(self) -> Self:
        self.addresses, self._claim = claim_index()
        try:
            # What a harness that was killed left under this index.
            from tests.harness.cleanup import remove_index

            await remove_index(self.addresses)
            self.addresses.state.mkdir(parents=True)
            for image in self._images:
                # Once, before all hosts ask for it at the same time.
                await archive_of(image)
            self.fabric = Fabric(self.addresses, links=max((1, *self._links)), mtu=self._mtu)
            await self.fabric.up()
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._add())
        except BaseException:
            await self._remove_all()
            raise
        self._hosts.sort(key=lambda host: host.number)
        return self

    async def _add(self) -> Host:
        number = max((host.number for host in self._hosts), default=0) + 1
        link = self._links[number - 1] if number <= len(self._links) else 1
        host = Host(number, self.fabric, self._options, link)
        self._hosts.append(host)
        host.forget_swarm()
        await host.boot()
        await host.empty()
        for image in self._images:
            await host.load(image)
        return host

    async def add(self) -> Host:
        """One more host, while the others run."""
        return await self._add()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._remove_all()

    async def _remove_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for host in self._hosts:
                group.create_task(host.remove())
        if hasattr(self, "fabric"):
            await self.fabric.down()
        remove_cgroups(self.addresses.cgroup)
        await asyncio.to_thread(shutil.rmtree, self.addresses.state, ignore_errors=True)
        if self._claim is not None:
            self._claim.release()
