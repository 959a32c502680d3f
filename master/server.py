"""One master: store, controllers, scheduler and dispatcher behind one gRPC port, as one lifetime."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common import heap
from common.errors import Unavailable
from common.rpc import SERVER_OPTIONS
from common.version import VERSION
from master.api.access import Access, Network, admin_token
from master.api.control_plane import MasterInfo, add_control_plane
from master.api.interceptors import ErrorInterceptor
from master.api.resources import Resources
from master.api.tokens import verify_join_token, write_bootstrap_token
from master.controllers.runner import Controllers
from master.dispatcher.dispatcher import Dispatcher
from master.dispatcher.fanout import FanOut
from master.dispatcher.registration import ClusterFacts
from master.scheduler.shell import Scheduler
from master.store.sqlite import SQLite
from master.store.store import Store
from protos import agent_pb2, control_pb2

log = structlog.get_logger()

_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class MasterConfig:
    """What one master needs to know: `listen` is HOST:PORT, the CIDRs are IPv4, `trust` networks of users."""

    data: Path
    listen: str = "127.0.0.1:7443"
    cluster: str = "sampan"
    cluster_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    bootstrap_token_file: Path | None = None
    trust: Sequence[Network] = field(default_factory=tuple)
    advertise: Sequence[str] = field(default_factory=tuple)
    # For the nodes' streams of routes alone; None: the port after `listen`'s, if it is free; 0: there is none.
    routes_port: int | None = None


async def serve(config: MasterConfig, stop: asyncio.Event) -> None:
    """Runs a master until `stop` is set.

    Raises Unavailable with what to do when the data or the port can't be used.
    """
    async with _store(config.data) as store:
        resources = Resources(store, service_cidr=config.service_cidr)
        await resources.ensure_builtin()
        if config.bootstrap_token_file is not None:
            await write_bootstrap_token(resources, config.bootstrap_token_file, time.time())
        facts = ClusterFacts(config.cluster, config.cluster_cidr, config.service_cidr)

        async def verify(token: str) -> object:
            verify_join_token(resources, token, time.time())
            return None

        dispatcher = Dispatcher(store, resources, facts, verify)
        controllers = Controllers(store, resources, dispatcher.nodes)
        scheduler = Scheduler(store, resources, dispatcher.nodes, measures=dispatcher.measured)
        access = Access(admin_token(config.data), config.trust)
        server = grpc.aio.server(interceptors=[ErrorInterceptor(), access], options=SERVER_OPTIONS)
        info = MasterInfo(config.cluster, tuple(config.advertise) or _reachable(config.listen))
        control = add_control_plane(server, resources, store, dispatcher.streams, scheduler, info)
        dispatcher.add_to(server)
        healthy = _add_health_and_reflection(server)
        _bind(server, config.listen)
        await _open_routes(dispatcher.fan_out, config)
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(dispatcher.run(), name="dispatcher"),
                group.create_task(controllers.run(), name="controllers"),
                group.create_task(scheduler.run(), name="scheduler"),
            ]
            await server.start()
            await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
            heap.settle()
            log.info("master.serving", listen=config.listen, cluster=config.cluster, version=VERSION, data=config.data)
            try:
                await stop.wait()
            finally:
                # Streams end first: a server waits its whole grace for an open watch.
                await healthy.enter_graceful_shutdown()
                control.close()
                dispatcher.close()
                await server.stop(_STOP_SECONDS)
                for part in parts:
                    part.cancel()
    log.info("master.stopped")


@contextlib.asynccontextmanager
async def _store(data: Path) -> AsyncIterator[Store]:
    """A loaded store; its writer ends after everything that uses it."""
    store = Store(SQLite(data))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(ready), name="store")
        await ready.wait()
        log.info("store.loaded", revision=store.revision, pods=store.count("Pod"))
        try:
            yield store
        finally:
            writer.cancel()


def _add_health_and_reflection(server: grpc.aio.Server) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [
        control_pb2.DESCRIPTOR.services_by_name["ControlPlane"].full_name,
        agent_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name,
        health.SERVICE_NAME,
        reflection.SERVICE_NAME,
    ]
    reflection.enable_server_reflection(names, server)
    return servicer


def _reachable(listen: str) -> tuple[str, ...]:
    """Where other machines can reach what listens at HOST:PORT; for all, the one towards the default route."""
    host, _, port = listen.rpartition(":")
    if host not in ("0.0.0.0", "[::]"):
        return (listen,)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; 192.0.2.0/24 is for documentation only (RFC 5737).
        probe.connect(("192.0.2.1", 9))
        return (f"{probe.getsockname()[0]}:{port}",)
    return (f"{socket.gethostname()}:{port}",)


async def _open_routes(fan_out: FanOut, config: MasterConfig) -> None:
    host, _, listen = config.listen.rpartition(":")
    port = int(listen) + 1 if config.routes_port is None else config.routes_port
    if not 0 < port < 65536:
        return
    try:
        await fan_out.listen(host.strip("[]"), port)
    except OSError as error:
        if config.routes_port is not None:
            raise Unavailable(
                f"can't listen on {host}:{port}: {error}; name another with --routes-port PORT"
            ) from error
        # Nodes do without it: their streams of routes are served on the other port too.
        log.warning("master.no_routes_port", port=port, cause=str(error))


def _bind(server: grpc.aio.Server, listen: str) -> None:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise Unavailable(
            f"can't listen on {listen}: the port is in use or the address is not this machine's; "
            "name another with --listen HOST:PORT"
        ) from error
    if port == 0:
        raise Unavailable(f"can't listen on {listen}: name an address of this machine with --listen HOST:PORT")
