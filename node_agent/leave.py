"""Takes this node's containers, volumes, network and routes off the machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys

import structlog

from common.errors import Conflict, NotFound, SampanError
from node_agent.assignments import REGISTRATION
from node_agent.config import AgentConfig
from node_agent.network import NodeNetwork, NodeNetworkConfig
from node_agent.runtime.docker import DockerRuntime
from node_agent.runtime.seam import Runtime, Seen, State
from node_agent.storage import FileStorage
from protos import agent_pb2

log = structlog.get_logger()

# Pods may take their own grace, but a machine that leaves does not wait longer than this for them.
LONGEST_GRACE_SECONDS = 30.0


async def leave(config: AgentConfig) -> None:
    """Idempotent. Raises Unavailable when the engine does not answer; the node's object in the cluster stays."""
    data = FileStorage(config.data).load(REGISTRATION)
    if data is None:
        log.info("leave.nothing", data=str(config.data))
        return
    facts = agent_pb2.RegisterResponse.FromString(data)
    runtime = DockerRuntime(facts.cluster, config.name, str(config.data), config.docker)
    try:
        await stop_everything(runtime)
        network = NodeNetworkConfig(
            cluster=facts.cluster,
            node=config.name,
            node_ip=config.node_ip,
            pod_cidr=facts.pod_cidr,
            cluster_cidr=facts.cluster_cidr,
            service_cidr=facts.service_cidr,
            in_container=await runtime.self_container() is not None,
            settings=config.network_settings,
        )
        # Before the network: the last packet filter to go would break what is still translated.
        await _forget_services(config)
        await NodeNetwork(runtime, network).teardown()
    finally:
        await runtime.close()
    await asyncio.to_thread(shutil.rmtree, config.data, True)
    log.info("leave.done", node=config.name)


async def _forget_services(config: AgentConfig) -> None:
    """Has the proxy's program take its table out of the kernel; where there is none, it does nothing."""
    words = ("--socket", str(config.proxy_socket), "--data", str(config.proxy_data), "--forget")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "proxy", *words)
    if await process.wait():
        log.warning("leave.services_left", hint="nft list tables shows them")


async def stop_everything(runtime: Runtime) -> None:
    """Ends this node's containers within their grace, and removes them and their volumes."""
    seen = await runtime.containers()
    running = [one for one in seen if one.state is State.RUNNING and one.identity.container]
    async with asyncio.TaskGroup() as group:
        for one in running:
            group.create_task(_end(runtime, one), name=f"leave/{one.identity.pod}")
    for one in await runtime.containers():
        with contextlib.suppress(NotFound):
            await runtime.remove(one.id)
    for name in await runtime.volumes():
        try:
            await runtime.remove_volume(name)
        except (NotFound, Conflict) as error:
            log.warning("leave.volume", volume=name, cause=str(error))


async def _end(runtime: Runtime, one: Seen) -> None:
    try:
        await runtime.terminate(one.id)
        async with asyncio.timeout(min(one.identity.grace, LONGEST_GRACE_SECONDS)):
            # Docker's events may be cut off: the list is what counts.
            while any(  # noqa: ASYNC110
                s.id == one.id and s.state is State.RUNNING for s in await runtime.containers(one.identity.uid)
            ):
                await asyncio.sleep(0.2)
    except (TimeoutError, SampanError) as error:
        log.info("leave.killed", pod=one.identity.pod, cause=str(error) or "grace is over")
