"""A runtime without containers: scripted latencies, exits and failures, for scale runs, demos and tests.

It keeps the same promises as Docker (tests/contract runs on both) and is cheap enough for a thousand nodes in
one process: no task per container, one timer per scripted exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from common.errors import Conflict, NotFound, Unavailable
from node_agent.network.seam import NetworkSpec, SelfContainer
from node_agent.runtime.script import Answer, Asked, Behaviour, Script, run_for_ever
from node_agent.runtime.scripted import ScriptedAttach, ScriptedFiles, ScriptedReach, ScriptedStdio
from node_agent.runtime.seam import (
    ContainerSpec,
    Hint,
    ImageError,
    ImageSeen,
    LogOptions,
    Machine,
    Refused,
    RegistryAuth,
    SandboxSpec,
    Seen,
    State,
    Usage,
)
from node_agent.runtime.stdio import PathSeen, Pipe, ReachError, Stdio

__all__ = ["Behaviour", "Script", "SimulatedRuntime", "run_for_ever"]

_KILLED, _TERMINATED = 137, 143
_CANNOT_START = 127
_GIB = 1024**3
_LOG_TAIL = 1000
_IDS = itertools.count(1)


@dataclass
class _Box:
    seen: Seen
    name: str
    behaviour: Behaviour
    lines: list[tuple[float, str]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    # Set at its end; made when somebody waits for that.
    gone: asyncio.Event | None = None
    network: str = ""
    volumes: tuple[str, ...] = ()
    files: ScriptedFiles | None = None


class SimulatedRuntime:
    """Implements `Runtime`. `machine` gives the figures of the pretended machine."""

    def __init__(
        self,
        cluster: str = "simulated",
        node: str = "node",
        script: Script | None = None,
        *,
        images: tuple[str, ...] = (),
        cpus: int = 8,
        memory: int = 32 * _GIB,
    ) -> None:
        self.script = script or Script()
        self._cluster, self._node, self._cpus, self._memory = cluster, node, cpus, memory
        self._boxes: dict[str, _Box] = {}
        self._by_pod: dict[str, set[str]] = {}
        self._images: dict[str, ImageSeen] = {}
        self._volumes: set[str] = set()
        self._networks: dict[str, NetworkSpec] = {}
        self._watchers: set[asyncio.Queue[Hint]] = set()
        self._changed: dict[str, asyncio.Event] = {}
        self.reach = ScriptedReach(self._ask)
        for name in images:
            self.add_image(name)

    def add_image(self, name: str) -> None:
        """Puts an image on the node without a pull."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        self._images[name] = ImageSeen(f"sha256:{digest}", (name,), 10_000_000)

    async def _call(self, seconds: float = 0.0) -> None:
        if seconds:
            await asyncio.sleep(seconds)
        if self.script.down:
            raise Unavailable("the simulated engine is down")

    async def containers(self, uid: str = "") -> list[Seen]:
        await self._call()
        ids = self._by_pod.get(uid, ()) if uid else self._boxes
        return [self._boxes[id].seen for id in ids]

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        await self._call(self.script.create_seconds)
        self._check_address(spec.network, spec.identity.ip)
        seen = Seen(_new_id(), spec.identity, State.CREATED, time.time())
        volumes = tuple(mount.source for mount in spec.mounts if mount.kind == "volume")
        name = _name(spec.identity.uid, "", spec.identity.attempt)
        return self._add(_Box(seen, name, Behaviour(), network=spec.network, volumes=volumes))

    async def create_container(self, spec: ContainerSpec) -> str:
        await self._call(self.script.create_seconds)
        image = self._images.get(spec.image)
        if image is None:
            raise ImageError(f"{spec.image} is not on this node")
        if spec.alone is None and spec.identity.sandbox not in self._boxes:
            raise Refused(f"no such container: {spec.identity.sandbox}")
        seen = Seen(_new_id(), spec.identity, State.CREATED, time.time(), image=spec.image, image_id=image.id)
        volumes = tuple(mount.source for mount in spec.mounts if mount.kind == "volume")
        name = _name(spec.identity.uid, spec.identity.container, spec.identity.attempt)
        network = spec.alone.network if spec.alone is not None else ""
        return self._add(_Box(seen, name, self.script.behave(spec), network=network, volumes=volumes))

    def _check_address(self, network: str, ip: str) -> None:
        for box in self._boxes.values():
            if network and box.network == network and box.seen.identity.ip == ip and box.seen.state is State.RUNNING:
                raise Conflict(f"Address already in use: {ip}")

    def _add(self, box: _Box) -> str:
        mates = self._by_pod.setdefault(box.seen.uid, set())
        if any(self._boxes[id].name == box.name for id in mates):
            raise Conflict(f"the name {box.name} is in use")
        self._boxes[box.seen.id] = box
        mates.add(box.seen.id)
        self._hint(box, "create")
        return box.seen.id

    async def start(self, id: str) -> None:
        await self._call(self.script.start_seconds)
        box = self._box(id)
        if box.seen.state is not State.CREATED:
            return
        self._check_address(box.network, box.seen.identity.ip)
        now, behaviour = time.time(), box.behaviour
        if behaviour.cannot_start:
            box.seen = dataclasses.replace(
                box.seen, state=State.EXITED, finished_at=now, exit_code=_CANNOT_START, error=behaviour.cannot_start
            )
            raise Refused(behaviour.cannot_start)
        box.seen = dataclasses.replace(box.seen, state=State.RUNNING, started_at=now)
        box.lines = [(now, line) for line in behaviour.lines]
        if behaviour.exits_after is not None:
            loop = asyncio.get_running_loop()
            box.timer = loop.call_later(behaviour.exits_after, self._exit, id, behaviour.exit_code, behaviour.oom)
        self._hint(box, "start")

    def _exit(self, id: str, code: int, oom: bool = False) -> None:
        box = self._boxes.get(id)
        if box is None or box.seen.state is not State.RUNNING:
            return
        if box.timer is not None:
            box.timer.cancel()
        box.seen = dataclasses.replace(
            box.seen, state=State.EXITED, finished_at=time.time(), exit_code=code, oom_killed=oom
        )
        if box.gone is not None:
            box.gone.set()
        self._hint(box, "die")

    def crash(self, id: str, code: int = 1) -> None:
        """Ends a running container from outside, as a fault would."""
        self._exit(id, code)

    def write(self, id: str, line: str) -> None:
        """Adds a line to a running container's output."""
        box = self._box(id)
        box.lines.append((time.time(), line))
        del box.lines[:-_LOG_TAIL]
        self._hint(box, "write")

    async def terminate(self, id: str) -> None:
        await self._call()
        box = self._boxes.get(id)
        if box is not None and box.seen.name and not box.behaviour.ignores_term:
            self._exit(id, _TERMINATED)

    async def kill(self, id: str) -> None:
        await self._call()
        self._exit(id, _KILLED)

    async def remove(self, id: str) -> None:
        await self._call()
        self._exit(id, _KILLED)
        box = self._boxes.pop(id, None)
        if box is None:
            return
        mates = self._by_pod[box.seen.uid]
        mates.discard(id)
        if not mates:
            del self._by_pod[box.seen.uid]
        self._hint(box, "destroy")
        self._changed.pop(id, None)

    @contextlib.asynccontextmanager
    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AsyncIterator[Stdio]:
        await self._call()
        box = self._running(id)
        answer = self.script.answer(Asked(box.seen.identity, "exec", " ".join(command)))
        stdio = ScriptedStdio(answer, _gone(box), _KILLED)
        try:
            yield stdio
        finally:
            stdio.end(_KILLED)

    @contextlib.asynccontextmanager
    async def attach(self, id: str, *, stdin: bool = False, replay: bool = False) -> AsyncIterator[Stdio]:
        await self._call()
        box = self._running(id)
        lines = self._follow(box, 0 if replay else len(box.lines), LogOptions())
        yield ScriptedAttach(lines, _gone(box), lambda: _code(box.seen))

    @contextlib.asynccontextmanager
    async def dial(self, id: str, host: str, port: int) -> AsyncIterator[Pipe]:
        await self._call()
        holder = self._box(id)
        answer = self._ask(host, "dial", f"{host}:{port}")
        if answer is None or answer.code:
            raise ReachError(f"port {port} of the pod ({host}): connection refused")
        pipe = ScriptedStdio(answer, _gone(holder), _KILLED)
        try:
            yield pipe
        finally:
            pipe.end(_KILLED)

    async def path_seen(self, id: str, path: str) -> PathSeen:
        await self._call()
        return self._files(id).seen(path)

    async def read_files(self, id: str, path: str) -> AsyncIterator[bytes]:
        await self._call()
        yield self._files(id).pack(path)

    async def write_files(self, id: str, directory: str, archive: AsyncIterator[bytes]) -> None:
        await self._call()
        if not self._files(id).seen(directory).directory:
            raise Refused(f"{directory} is not a directory")
        self._files(id).unpack(directory, b"".join([piece async for piece in archive]))

    def _files(self, id: str) -> ScriptedFiles:
        box = self._box(id)
        if box.files is None:
            box.files = ScriptedFiles()
        return box.files

    def _running(self, id: str) -> _Box:
        box = self._box(id)
        if box.seen.state is not State.RUNNING:
            raise Conflict(f"container {id} is not running")
        return box

    async def termination_message(self, id: str) -> str:
        await self._call()
        return self._box(id).behaviour.message

    def _ask(self, host: str, what: str, detail: str) -> Answer | None:
        """Puts a question to who has the address; None when nobody has."""
        for box in self._boxes.values():
            seen = box.seen
            if seen.name and seen.state is State.RUNNING and seen.identity.ip == host:
                return self.script.answer(Asked(seen.identity, what, detail))
        return None

    async def image(self, reference: str) -> ImageSeen | None:
        await self._call()
        return self._images.get(reference)

    async def images(self) -> list[ImageSeen]:
        await self._call()
        return list(self._images.values())

    async def images_in_use(self) -> frozenset[str]:
        await self._call()
        return frozenset(box.seen.image_id for box in self._boxes.values() if box.seen.image_id)

    async def remove_image(self, reference: str) -> None:
        await self._call()
        image = self._images.get(reference) or next((i for i in self._images.values() if i.id == reference), None)
        if image is None:
            return
        if image.id in await self.images_in_use():
            raise Conflict(f"image {reference} is used by a container")
        self._images = {name: one for name, one in self._images.items() if one.id != image.id}

    async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
        await self._call(self.script.pull_seconds)
        if self.script.registry is not None and reference not in self.script.registry:
            raise ImageError(f"manifest for {reference} not found: manifest unknown")
        self.add_image(reference)

    async def logs(self, id: str, options: LogOptions) -> AsyncIterator[bytes]:
        await self._call()
        box = self._box(id)
        lines = [line for line in box.lines if line[0] >= options.since]
        sent = len(box.lines)
        for line in lines if options.tail is None else lines[len(lines) - min(len(lines), options.tail) :]:
            yield _log_line(line, options)
        if options.follow:
            async for piece in self._follow(box, sent, options):
                yield piece

    async def _follow(self, box: _Box, sent: int, options: LogOptions) -> AsyncIterator[bytes]:
        """What it writes after its first `sent` lines, until it ends."""
        id = box.seen.id
        while True:
            over = box.seen.state is State.EXITED or id not in self._boxes
            lines, sent = box.lines[sent:], len(box.lines)
            for line in lines:
                yield _log_line(line, options)
            if over:
                return
            if sent == len(box.lines) and box.seen.state is not State.EXITED and id in self._boxes:
                # Made only while it is there: `remove` takes it away.
                changed = self._changed.setdefault(id, asyncio.Event())
                changed.clear()
                await changed.wait()

    async def usage(self, id: str) -> Usage:
        await self._call()
        box = self._box(id)
        ran = (box.seen.finished_at or time.time()) - box.seen.started_at if box.seen.started_at else 0.0
        return Usage(cpu_seconds=ran * 0.01, memory=box.behaviour.memory)

    async def disk_usage(self, id: str) -> int:
        await self._call()
        return self._box(id).behaviour.disk

    async def hints(self) -> AsyncIterator[Hint]:
        queue: asyncio.Queue[Hint] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield Hint("", "connected")
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    def _hint(self, box: _Box, what: str) -> None:
        for queue in self._watchers:
            queue.put_nowait(Hint(box.seen.uid, what))
        changed = self._changed.get(box.seen.id)
        if changed is not None:
            changed.set()

    async def machine(self) -> Machine:
        await self._call()
        running = sum(box.seen.state is State.RUNNING for box in self._boxes.values())
        return Machine(
            runtime_version="simulated://1",
            kernel="simulated",
            os_image="simulated",
            architecture="simulated",
            cpus=self._cpus,
            memory=self._memory,
            memory_available=max(_GIB, self._memory - running * 10_000_000),
            cpu_seconds=time.monotonic() * 0.01 * running,
            disk=100 * _GIB,
            disk_free=90 * _GIB,
            pids=running,
            pids_max=4_194_304,
        )

    async def create_memory_volume(self, name: str, size: int) -> None:
        await self._call()
        self._volumes.add(name)

    async def remove_volume(self, name: str) -> None:
        await self._call()
        if any(name in box.volumes for box in self._boxes.values()):
            raise Conflict(f"volume {name} is in use")
        self._volumes.discard(name)

    async def volumes(self) -> list[str]:
        await self._call()
        return sorted(self._volumes)

    async def host_path(self, path: str) -> str:
        return path

    async def self_container(self) -> SelfContainer | None:
        return None

    async def ensure_network(self, spec: NetworkSpec) -> None:
        await self._call()
        held = self._networks.get(spec.name)
        if held is not None and held != spec:
            await self.remove_network(spec.name)
        self._networks[spec.name] = spec

    async def network_bridge(self, name: str) -> str:
        await self._call()
        if name not in self._networks:
            raise NotFound(f"no network {name}")
        return f"sim-{name}"[:15]

    async def connect_self(self, network: str, ip: str) -> None:
        raise NotFound("a simulated engine has no container of ours: there is nothing to connect")

    async def remove_network(self, name: str) -> None:
        await self._call()
        users = [box.name for box in self._boxes.values() if box.network == name and box.seen.state is State.RUNNING]
        if users:
            raise Conflict(f"network {name} is used by {', '.join(sorted(users))}")
        self._networks.pop(name, None)

    async def close(self) -> None:
        for box in self._boxes.values():
            if box.timer is not None:
                box.timer.cancel()

    def _box(self, id: str) -> _Box:
        box = self._boxes.get(id)
        if box is None:
            raise NotFound(f"no such container: {id}")
        return box


def _gone(box: _Box) -> asyncio.Event:
    if box.gone is None:
        box.gone = asyncio.Event()
    return box.gone


def _code(seen: Seen) -> int | None:
    return seen.exit_code if seen.state is State.EXITED else None


def _new_id() -> str:
    return f"{next(_IDS):064x}"


def _name(uid: str, container: str, attempt: int) -> str:
    return f"{uid}/{container or 'sandbox'}/{attempt}"


def _log_line(line: tuple[float, str], options: LogOptions) -> bytes:
    stamp = ""
    if options.timestamps:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line[0])) + f".{int(line[0] % 1 * 1e9):09d}Z "
    return f"{stamp}{line[1]}\n".encode()
