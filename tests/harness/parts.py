"""Sampan's own processes on the harness: the master, and what runs on a node (supervisor, agent, proxy)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.harness.commands import eventually
from tests.harness.fabric import Fabric
from tests.harness.hosts import Host
from tests.harness.process import Process, pids_in_netns

BIN = Path(sys.executable).parent
# How the parts of a node show in a process list: as the installed program, or as `python -m`.
_WORDS = {"agent": ("sampan-agent", "node_agent"), "proxy": ("sampan-proxy", "proxy")}


def clean_environment(**extra: str) -> dict[str, str]:
    """This environment without the caller's own SAMPAN_ settings, which would point at another cluster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SAMPAN_")}
    # Installed programs start from compiled modules; without them each start compiles the whole of ours again.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    # A node's tools live in sbin, which a bare PATH lacks.
    kept["PATH"] = f"{BIN}:{kept.get('PATH', '')}:/usr/sbin:/sbin"
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


class Master:
    """The master in a namespace of its own, at `address` (HOST:PORT) for nodes and for the test."""

    def __init__(self, fabric: Fabric, cluster: str, options: Sequence[str]) -> None:
        addresses = fabric.addresses
        self.address = f"{addresses.master_address}:7443"
        self.data = addresses.state / "master"
        self.data.mkdir()
        self.join_token_file = addresses.state / "join-token"
        self._fabric = fabric
        self._port = ""
        command = [
            str(BIN / "sampan-master"),
            *("--listen", self.address),
            *("--data", str(self.data)),
            *("--cluster", cluster),
            *("--bootstrap-token-file", str(self.join_token_file)),
            # The test calls from outside the master's namespace; hosts and pods still need a token.
            *("--trust", f"{addresses.test_address}/32"),
            *options,
        ]
        self.process = Process(
            "master", command, folder=addresses.state, netns=addresses.master_netns, env=clean_environment()
        )

    async def boot(self) -> None:
        """Makes its namespace and starts it; returns when its port is open."""
        self._port = await self._fabric.plug(self._fabric.addresses.master_netns, self._fabric.addresses.master_address)
        await self.start()

    async def start(self) -> None:
        """Starts it again with the same data; returns when its port is open."""
        self.process.start()
        await eventually(self._open, within=90, what="the master's port is open", ignore=(OSError,))

    async def _open(self) -> bool:
        if not self.process.running:
            raise RuntimeError(f"the master ended:\n{self.process.tail()}")
        host, port = self.address.split(":")
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
        return True

    async def kill(self) -> None:
        """SIGKILL."""
        await self.process.kill()

    async def stop(self) -> None:
        """SIGTERM, and waits."""
        await self.process.stop()

    def pause(self) -> None:
        """SIGSTOP: it answers nothing, its connections stay open."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def cut(self, *, keep_carrier: bool = False) -> None:
        """Cuts the master off the network."""
        await self._fabric.cut(self._port, keep_carrier=keep_carrier)

    async def restore(self) -> None:
        """Undoes `cut()`."""
        await self._fabric.restore(self._port)

    def admin_token(self) -> str:
        """The bearer token for calls from anywhere but the test itself."""
        return (self.data / "admin.token").read_text().strip()


class Node:
    """What Sampan runs on one host: `sampan-node`, which keeps an agent and a proxy running."""

    def __init__(self, host: Host, master: Master, options: Sequence[str]) -> None:
        self.host = host
        self.name = host.name
        self.data = host.state / "data"
        self.data.mkdir(exist_ok=True)
        command = [
            str(BIN / "sampan-node"),
            *("--name", host.name),
            *("--master", master.address),
            *("--token-file", str(master.join_token_file)),
            *("--data", str(self.data)),
            *("--docker", host.docker_url),
            *("--node-ip", host.address),
            *options,
        ]
        self.supervisor = Process("node", command, folder=host.state, netns=host.netns, env=clean_environment())

    def start(self) -> None:
        """Starts the supervisor, which starts the rest."""
        self.supervisor.start()

    async def stop(self) -> None:
        """SIGTERM to the supervisor, as a system that stops the service; pods keep running."""
        await self.supervisor.stop()

    async def kill(self) -> None:
        """SIGKILL to supervisor, agent and proxy; the engine and the pods keep running."""
        await self.supervisor.kill()
        for part in _WORDS:
            self._signal(part, signal.SIGKILL)
        await eventually(self._gone, within=90, what=f"agent and proxy of {self.name} are gone")

    async def _gone(self) -> bool:
        return not any(self.pids(part) for part in _WORDS)

    def pids(self, part: str) -> list[int]:
        """The processes of `part` ("agent" or "proxy") on this host; of the agent that is one, or none."""
        parents: dict[int, int] = {}
        for pid in sorted(pids_in_netns(self.host.netns)):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and _is(part, process.cmdline()):
                    parents[pid] = process.ppid()
        # A command that the agent runs has the agent's own words until it has become that command.
        return [pid for pid, parent in parents.items() if part != "agent" or parent not in parents]

    def kill_agent(self) -> list[int]:
        """SIGKILL to the agent; the supervisor starts another. Returns the pids that were killed."""
        return self._signal("agent", signal.SIGKILL)

    def kill_proxy(self) -> list[int]:
        """SIGKILL to the proxy; the supervisor starts another. Returns the pids that were killed."""
        return self._signal("proxy", signal.SIGKILL)

    def pause(self, part: str) -> None:
        """SIGSTOP to "agent" or "proxy": it hangs, and nobody starts another."""
        self._signal(part, signal.SIGSTOP)

    def resume(self, part: str) -> None:
        self._signal(part, signal.SIGCONT)

    def _signal(self, part: str, number: int) -> list[int]:
        pids = self.pids(part)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    async def power_off(self) -> None:
        """The whole host dies: supervisor, agent, proxy, engine, containers, network."""
        await self.host.kill()
        await self.supervisor.kill()

    async def power_on(self) -> None:
        """The host boots: engine, then supervisor, as its system would start them."""
        await self.host.boot()
        self.start()


def _is(part: str, words: Sequence[str]) -> bool:
    program, module = _WORDS[part]
    if any(Path(word).name == program for word in words[:2]):
        return True
    return any(first == "-m" and second.split(".")[0] == module for first, second in itertools.pairwise(words))
