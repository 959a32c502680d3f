"""The life of a proxy's control process: takes its place, or another one's, serves, and drains or is taken over."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
from functools import partial
from pathlib import Path

from common import scrape
from common.tasks import Tasks
from common.version import VERSION
from proxy import logs, storage
from proxy.control import AlreadyRunning, Control
from proxy.dns.dns import Dns
from proxy.metrics import Exposition
from proxy.nft import NftPlane, in_kernel
from proxy.table import Table
from proxy.workers import takeover
from proxy.workers.channel import Channel
from proxy.workers.crew import Crew, Spawner
from proxy.workers.indoors import Indoors
from proxy.workers.kernel import KernelHalf, kernel_status

log = logs.EventLog("proxy")

# Seconds that workers may take to serve a stored table before the agent is listened to all the same.
READY_WAIT = 20.0
READY_POLL = 0.01
CLAIM_WAIT = 10.0


async def serve(options: argparse.Namespace, spawner: Spawner | None) -> int:
    """Runs until SIGTERM or SIGINT, then drains; a second signal ends the draining. Returns the exit code.

    Without `spawner` the only worker is in this process. Ends too when another proxy has taken over, as soon as no
    connection is left in this process.
    """
    options.data.mkdir(parents=True, exist_ok=True)
    return await Process(options, spawner).run()


class Process:
    """One control process."""

    def __init__(self, options: argparse.Namespace, spawner: Spawner | None) -> None:
        self._options = options
        self._indoors = Indoors(options.half_close_idle, options.linger, in_kernel) if spawner is None else None
        self._crew = Crew(spawner or self._indoors_spawner(), options.workers, in_kernel)
        self._dns = Dns(on_errors_changed=lambda: self._crew.on_errors_changed())
        self._nft = NftPlane(errors_changed=lambda: self._crew.on_errors_changed())
        self._kernel = KernelHalf(self._nft, self._crew.other_moved)
        self._crew.followers += [self._dns.apply, self._kernel.follow]
        self._crew.other_errors += [self._dns.errors, lambda: self._kernel.errors]
        self._crew.other_applied.append(lambda: self._kernel.applied)
        self._crew.other_status.append(partial(kernel_status, self._nft))
        self._saver = storage.Saver(options.data)
        self._control = Control(options.socket, self._crew, self._saver)
        self._control.on_takeover = self._give_away
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._given: Channel | None = None
        self._exposition = Exposition()
        self._metrics = Tasks("metrics")

    def _indoors_spawner(self) -> Indoors:
        assert self._indoors is not None
        return self._indoors

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            predecessor = await self._claim()
        except (AlreadyRunning, takeover.Failed) as error:
            log.error("proxy.already_running", error=str(error))
            await self._end()
            return 1
        stored = await self._begin(predecessor)
        # An agent that reaches the socket finds the stored table served.
        await self._control.start()
        log.info(
            "proxy.started",
            pid=os.getpid(),
            workers=self._options.workers,
            descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            table=f"{stored.epoch}/{stored.revision}" if stored else "none",
            taken_over=predecessor is not None,
        )
        self._expose()
        await self._stop.wait()
        # The next proxy has the address.
        await self._metrics.close()
        await (self._drain() if self._given is None else self._leave())
        await self._end()
        return 0

    def _expose(self) -> None:
        place: str = self._options.metrics_listen
        if not place:
            return

        async def readings() -> str:
            return self._exposition.text(await self._crew.counted())

        def failed(why: str) -> None:
            log.warning("metrics.not_served", address=place, error=why)

        self._metrics.start("serve", scrape.serve(place, readings, failed))

    def _signalled(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _claim(self) -> takeover.Predecessor | None:
        """The place is ours, or the proxy that has it is about to be. Raises AlreadyRunning, takeover.Failed."""
        path: Path = self._options.socket
        try:
            self._control.claim()
            return None
        except AlreadyRunning:
            if not self._options.takeover and await takeover.running_version(path) in (VERSION, ""):
                raise
        predecessor = takeover.Predecessor(path)
        await predecessor.ask()
        return predecessor

    async def _begin(self, predecessor: takeover.Predecessor | None) -> Table | None:
        """Serves the table on disk, on the sockets of the one before."""
        if predecessor is not None:
            for place, sock in predecessor.sockets:
                self._crew.sockets.inherit(place, sock)
        stored = await asyncio.to_thread(storage.load, self._options.data)
        self._crew.start()
        if stored is not None:
            self._saver.resume(stored)
            self._crew.apply(stored)
            await self._ready((stored.epoch, stored.revision))
        self._crew.sockets.disown()
        if predecessor is not None:
            for handed in await predecessor.finish():
                self._crew.adopt(handed)
            await self._control.claim_soon(CLAIM_WAIT)
        return stored

    async def _ready(self, revision: tuple[str, int]) -> None:
        limit = asyncio.get_running_loop().time() + READY_WAIT
        while self._crew.applied != revision and not self._stop.is_set():
            if asyncio.get_running_loop().time() > limit:
                log.warning("proxy.not_ready", applied=self._crew.applied)
                return
            await asyncio.sleep(READY_POLL)

    async def _give_away(self, sock: socket.socket) -> None:
        """Another proxy takes over: see `proxy.workers.takeover`."""
        self._control.refuse_agents(True)
        self._given = await takeover.give(sock, self._crew, self._saver, self._options.linger)
        if self._given is None:
            self._control.refuse_agents(False)
        else:
            self._stop.set()

    async def _drain(self) -> None:
        status = await self._crew.full_status()
        log.info("proxy.draining", connections=status["counters"].get("open", 0), seconds=self._options.drain)
        # The next proxy may start while this one drains. In one go and in this order: when the place is free, so are
        # the ports and the file.
        self._dns.stop_listening()
        self._crew.stop_listening(self._options.drain)
        self._saver.finish()
        self._control.close()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(self._crew.drain(), name="proxy/drain")
            hurried = group.create_task(self._hurry.wait(), name="proxy/hurry")
            await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not drained.done():
                self._crew.hurry()
        log.info("proxy.stopped")

    async def _leave(self) -> None:
        """All is given away; what this process itself carries goes on until it is done."""
        self._dns.stop_listening()
        self._crew.sockets.close()
        self._control.close()
        assert self._given is not None
        self._given.close()
        log.info("proxy.taken_over")
        if self._indoors is not None:
            async with asyncio.TaskGroup() as group:
                done = group.create_task(self._indoors.done(), name="proxy/indoors")
                hurried = group.create_task(self._hurry.wait(), name="proxy/hurry")
                await asyncio.wait({done, hurried}, return_when=asyncio.FIRST_COMPLETED)
                hurried.cancel()
                done.cancel()

    async def _end(self) -> None:
        await self._metrics.close()
        await self._saver.close()
        await self._kernel.close()
        await self._dns.close()
        await self._crew.close()
        self._control.close()
