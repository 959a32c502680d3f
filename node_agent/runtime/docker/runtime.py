"""The Runtime on one Docker Engine: containers by labels, with what does not change remembered between relists."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from common.errors import Conflict, NotFound, SampanError
from node_agent.care.settings import LogRotation
from node_agent.network.seam import NetworkSpec, SelfContainer
from node_agent.runtime.docker.config import container_body, sandbox_body
from node_agent.runtime.docker.dial import docker_dial
from node_agent.runtime.docker.dying import Dying
from node_agent.runtime.docker.engine import CALL_SECONDS, Engine, start_error
from node_agent.runtime.docker.events import docker_hints
from node_agent.runtime.docker.exec import docker_attach, docker_exec
from node_agent.runtime.docker.files import path_seen, read_files, write_files
from node_agent.runtime.docker.images import DockerImages
from node_agent.runtime.docker.labels import CLUSTER, NODE, UID, name_of, node_filter, seen_of
from node_agent.runtime.docker.logconfig import log_config, rotated
from node_agent.runtime.docker.logs import read_logs
from node_agent.runtime.docker.machine import log_bytes, read_machine
from node_agent.runtime.docker.messages import make_message_file, message_file, read_message
from node_agent.runtime.docker.networks import DockerNetworks
from node_agent.runtime.docker.resolv import RESOLV_CONF, resolv_file
from node_agent.runtime.docker.selfcontainer import translate
from node_agent.runtime.reach import NodeReach
from node_agent.runtime.sandbox_image import REFERENCE
from node_agent.runtime.seam import (
    ContainerSpec,
    Hint,
    Identity,
    ImageError,
    ImageSeen,
    LogOptions,
    Machine,
    Mount,
    Refused,
    RegistryAuth,
    SandboxSpec,
    Seen,
    State,
    Usage,
)
from node_agent.runtime.stdio import PathSeen, Pipe, Stdio

_NANO = 10**9

log = structlog.get_logger(__name__)


class DockerRuntime:
    """Implements `Runtime`. `url` as in `Engine`; `data_dir` (absolute) has files of its own."""

    def __init__(
        self, cluster: str, node: str, data_dir: str, url: str = "", rotation: LogRotation | None = None
    ) -> None:
        self._cluster, self._node, self._data_dir = cluster, node, data_dir
        self._rotation = rotation or LogRotation()
        self._log_config: dict[str, Any] | None = None
        self._dying = Dying()
        self._engine = Engine(url)
        self._images = DockerImages(self._engine)
        self._networks = DockerNetworks(self._engine)
        self.reach = NodeReach()
        # id -> (state as listed, what an inspect said); a container in the same state has not changed.
        self._known: dict[str, tuple[str, Seen]] = {}
        # What we have made and not started yet: an engine that starts a container answers no inspect until it has.
        self._made: dict[str, Seen] = {}
        self._architecture = ""
        self._engine_major: int | None = None
        self._sandbox_image = asyncio.Lock()
        self._asking_logging = asyncio.Lock()

    async def containers(self, uid: str = "") -> list[Seen]:
        labels = [*node_filter(self._cluster, self._node), *([f"{UID}={uid}"] if uid else [])]
        params = {"all": "1", "filters": json.dumps({"label": labels})}
        listed = await self._engine.call("GET", "containers/json", params=params)
        if not uid:
            present = {one["Id"] for one in listed}
            self._known = {id: known for id, known in self._known.items() if id in present}
            self._made = {id: made for id, made in self._made.items() if id in present}
            self._dying.keep(present)
        found = await asyncio.gather(*(self._seen(one["Id"], one["State"]) for one in listed))
        return [seen for seen in found if seen is not None]

    async def _seen(self, id: str, state: str) -> Seen | None:
        if state == "created" and id in self._made:
            return self._made[id]
        dying = self._dying.seen(id, state)
        if dying is not None:
            return dying
        known = self._known.get(id)
        # "created" hides whether a start has failed meanwhile.
        if known is not None and known[0] == state and state != "created":
            return known[1]
        try:
            seen = seen_of(await self._engine.call("GET", f"containers/{id}/json"))
        except NotFound:
            return None
        if seen is not None:
            self._known[id] = (state, seen)
        return seen

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        own = await self._networks.own_container() if not spec.network else None
        body = sandbox_body(spec, str(own["Id"]) if own is not None else "")
        try:
            return await self._create(spec.identity, body)
        except ImageError:
            async with self._sandbox_image:
                if not self._architecture:
                    self._architecture = str((await self._engine.call("GET", "version")).get("Arch", ""))
                await self._images.ensure_sandbox_image(self._architecture)
            return await self._create(spec.identity, body)

    async def create_container(self, spec: ContainerSpec) -> str:
        if self._engine_major is None:
            version = str((await self._engine.call("GET", "version")).get("Version", ""))
            major = version.partition(".")[0]
            self._engine_major = int(major) if major.isdigit() else 0
        logs = await self._logging(spec.image)
        return await self._create(spec.identity, container_body(await self._with_files(spec), self._engine_major, logs))

    async def _learn_logging(self) -> None:
        """Before the first container, if there is any image yet, so that no pod has to wait for it."""
        if self._log_config is None and self._cluster:
            images = await self._images.all()
            # Best of our own: while it is asked with, an image is in use.
            images.sort(key=lambda image: REFERENCE in image.names)
            if images:
                await self._logging(images[-1].id)

    async def _logging(self, image: str) -> dict[str, Any]:
        """Asked of the engine once, with the first image that is there."""
        async with self._asking_logging:
            if self._log_config is None:
                try:
                    self._log_config = await log_config(self._engine, self._rotation, image, self._cluster, self._node)
                except SampanError as error:
                    log.info("docker.log_options_unknown", error=str(error))
                    return rotated("json-file", self._rotation)
            return self._log_config

    async def _with_files(self, spec: ContainerSpec) -> ContainerSpec:
        """The container with its resolv.conf and message file mounted.

        Docker's own resolv.conf would point at a resolver inside the engine, which is gone when the engine is, and
        which answers for addresses of pods by itself.
        """
        mounts = list(spec.mounts)
        if spec.resolv_conf:
            path = await asyncio.to_thread(resolv_file, Path(self._data_dir), spec.resolv_conf)
            mounts.append(Mount("bind", await self.host_path(str(path)), RESOLV_CONF, read_only=True))
        if spec.message_path and all(mount.target != spec.message_path for mount in mounts):
            path = message_file(Path(self._data_dir), spec.identity)
            await asyncio.to_thread(make_message_file, path)
            mounts.append(Mount("bind", await self.host_path(str(path)), spec.message_path))
        return replace(spec, mounts=tuple(mounts))

    async def _create(self, identity: Identity, body: dict[str, Any]) -> str:
        params = {"name": name_of(identity)}
        try:
            made = await self._engine.call("POST", "containers/create", params=params, body=body, heavy=True)
        except NotFound as error:
            if "image" in str(error).lower():
                raise ImageError(f"{body['Image']} is not on this node") from None
            raise Refused(str(error)) from None
        id = str(made["Id"])
        self._made[id] = Seen(id, identity, State.CREATED, time.time(), image=str(body["Image"]))
        return id

    async def start(self, id: str) -> None:
        self._known.pop(id, None)
        await self._address_freed(id)
        try:
            await self._engine.call("POST", f"containers/{id}/start", heavy=True)
        except NotFound as error:
            # Docker answers 404 for a command that is not in the image, and for a container that is gone.
            if "no such container" in str(error).lower():
                raise
            raise start_error(str(error)) from None
        except Refused as error:
            raise start_error(str(error)) from None
        finally:
            self._made.pop(id, None)

    async def _address_freed(self, id: str) -> None:
        """Waits for the attempt before this one to give its address back; an error shows in the start itself."""
        made = self._made.get(id)
        for other in self._dying.holding(made.identity.ip) if made is not None else ():
            with contextlib.suppress(SampanError):
                await self._engine.call("GET", f"containers/{other}/json")
            self._dying.forget(other)

    async def terminate(self, id: str) -> None:
        try:
            config = (await self._engine.call("GET", f"containers/{id}/json"))["Config"]
        except NotFound:
            return
        await self._signal(id, str(config.get("StopSignal") or "SIGTERM"))

    async def kill(self, id: str) -> None:
        await self._signal(id, "SIGKILL")

    async def _signal(self, id: str, signal: str) -> None:
        try:
            await self._engine.call("POST", f"containers/{id}/kill", params={"signal": signal})
        except (NotFound, Conflict):
            # Gone or not running: what was asked for. (Docker 20.10 says 409 for the latter.)
            pass
        except Refused as error:
            # A zombie has got its signal: the engine has not come to reap it within its own ten seconds.
            if not any(words in str(error) for words in ("is not running", "is zombie")):
                raise

    async def remove(self, id: str) -> None:
        try:
            await self._engine.call("DELETE", f"containers/{id}", params={"force": "1", "v": "1"}, heavy=True)
        except NotFound:
            pass
        except Conflict as error:
            if "already in progress" not in str(error):
                raise
        made, dying, known = self._made.pop(id, None), self._dying.get(id), self._known.pop(id, None)
        self._dying.forget(id)
        last = known[1] if known is not None else dying or made
        if last is not None and last.name:
            path = message_file(Path(self._data_dir), last.identity)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AbstractAsyncContextManager[Stdio]:
        return docker_exec(self._engine, id, command, stdin=stdin, tty=tty)

    def attach(self, id: str, *, stdin: bool = False, replay: bool = False) -> AbstractAsyncContextManager[Stdio]:
        return docker_attach(self._engine, id, stdin=stdin, replay=replay)

    def dial(self, id: str, host: str, port: int) -> AbstractAsyncContextManager[Pipe]:
        return docker_dial(self._engine, id, host, port)

    async def path_seen(self, id: str, path: str) -> PathSeen:
        return await path_seen(self._engine, id, path)

    def read_files(self, id: str, path: str) -> AsyncIterator[bytes]:
        return read_files(self._engine, id, path)

    async def write_files(self, id: str, directory: str, archive: AsyncIterator[bytes]) -> None:
        await write_files(self._engine, id, directory, archive)

    async def termination_message(self, id: str) -> str:
        known, dying = self._known.get(id), self._dying.get(id)
        seen = known[1] if known is not None else dying
        if seen is None:
            seen = seen_of(await self._engine.call("GET", f"containers/{id}/json"))
        if seen is None or not seen.name:
            return ""
        return await asyncio.to_thread(read_message, message_file(Path(self._data_dir), seen.identity))

    async def image(self, reference: str) -> ImageSeen | None:
        return await self._images.get(reference)

    async def images(self) -> list[ImageSeen]:
        return [image for image in await self._images.all() if REFERENCE not in image.names]

    async def images_in_use(self) -> frozenset[str]:
        return await self._images.in_use()

    async def remove_image(self, reference: str) -> None:
        await self._images.remove(reference)

    async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
        await self._images.pull(reference, auth)

    def logs(self, id: str, options: LogOptions) -> AsyncIterator[bytes]:
        return read_logs(self._engine, id, options)

    async def usage(self, id: str) -> Usage:
        params = {"stream": "0", "one-shot": "1"}
        stats = await self._engine.call("GET", f"containers/{id}/stats", params=params)
        memory, cpu = stats.get("memory_stats") or {}, stats.get("cpu_stats") or {}
        detail = memory.get("stats") or {}
        cache = int(detail.get("total_inactive_file") or detail.get("inactive_file") or 0)
        used = int(memory.get("usage") or 0)
        total = int((cpu.get("cpu_usage") or {}).get("total_usage") or 0)
        return Usage(cpu_seconds=total / _NANO, memory=max(0, used - cache))

    async def disk_usage(self, id: str) -> int:
        shown = await self._engine.call("GET", f"containers/{id}/json", params={"size": "1"})
        logs = await asyncio.to_thread(log_bytes, str(shown.get("LogPath") or ""))
        return max(0, int(shown.get("SizeRw") or 0)) + logs

    def hints(self) -> AsyncIterator[Hint]:
        return docker_hints(self._engine, self._cluster, self._node, self._heard)

    def _heard(self, event: Mapping[str, Any]) -> None:
        known = self._known.pop(str(event["Actor"]["ID"]), None)
        self._dying.heard(event, known[1] if known is not None else None)

    async def machine(self) -> Machine:
        info = await self._engine.call("GET", "info")
        await self._learn_logging()
        contained = await self._networks.own_container() is not None
        return await asyncio.to_thread(read_machine, info, self._data_dir, contained=contained)

    async def create_memory_volume(self, name: str, size: int) -> None:
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"mode=1777,size={size}" if size else "mode=1777"}
        body = {"Name": name, "Driver": "local", "DriverOpts": options}
        body["Labels"] = {CLUSTER: self._cluster, NODE: self._node}
        await self._engine.call("POST", "volumes/create", body=body)

    async def remove_volume(self, name: str) -> None:
        try:
            await self._engine.call("DELETE", f"volumes/{name}")
        except NotFound:
            pass

    async def volumes(self) -> list[str]:
        filters = json.dumps({"label": node_filter(self._cluster, self._node)})
        listed = await self._engine.call("GET", "volumes", params={"filters": filters}, seconds=CALL_SECONDS)
        return [str(one["Name"]) for one in listed.get("Volumes") or ()]

    async def host_path(self, path: str) -> str:
        own = await self._networks.own_container()
        if own is None:
            return path
        found = translate(path, own.get("Mounts") or [])
        if found is None:
            raise Refused(
                f"{path} lies in the agent's own container, where pods cannot see it: "
                f"mount a volume there (the agent's data directory must be one)"
            )
        return found

    async def self_container(self) -> SelfContainer | None:
        return await self._networks.self_container()

    async def ensure_network(self, spec: NetworkSpec) -> None:
        await self._networks.ensure(spec)

    async def network_bridge(self, name: str) -> str:
        return await self._networks.bridge(name)

    async def connect_self(self, network: str, ip: str) -> None:
        await self._networks.connect_self(network, ip)

    async def remove_network(self, name: str) -> None:
        await self._networks.remove(name)

    async def close(self) -> None:
        await self._engine.close()
