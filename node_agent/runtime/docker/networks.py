"""Docker bridge networks for pods, and this process's own place on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import Conflict, NotFound
from node_agent.network.seam import GATEWAY_MODE, MTU, NetworkSpec, SelfContainer, SelfEndpoint
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.docker.labels import unix_time
from node_agent.runtime.docker.selfcontainer import candidates

_BRIDGE_NAME = "com.docker.network.bridge.name"
_AUX_GATEWAY = "DefaultGatewayIPv4"
# Engines from this one on know and need GATEWAY_MODE.
_GATEWAY_MODE_SINCE = 28


class DockerNetworks:
    """The network part of the Docker runtime."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._self: Mapping[str, Any] | bool | None = False

    async def ensure(self, spec: NetworkSpec) -> None:
        found = await self._inspect(spec.name)
        if found is not None:
            if same_network(found, spec):
                return
            labels = found.get("Labels") or {}
            if any(labels.get(key) != value for key, value in spec.labels.items()):
                raise Conflict(f"a Docker network {spec.name} exists that is not ours: remove or rename it")
            try:
                await self.remove(spec.name)
            except Conflict:
                if same_network(found, spec, but=(MTU,)):
                    # Its pods keep the size they have; TCP is told what fits, and the rest learns it.
                    return
                raise
        await self._engine.call("POST", "networks/create", body=await self._body(spec))

    async def bridge(self, name: str) -> str:
        found = await self._inspect(name)
        if found is None:
            raise NotFound(f"no Docker network {name}")
        return str((found.get("Options") or {}).get(_BRIDGE_NAME) or f"br-{found['Id'][:12]}")

    async def remove(self, name: str) -> None:
        found = await self._inspect(name)
        if found is None:
            return
        own = await self.own_container()
        inside = dict(found.get("Containers") or {})
        joined = own is not None and inside.pop(own["Id"], None) is not None
        if inside:
            names = ", ".join(sorted(str(one.get("Name") or id) for id, one in inside.items()))
            raise Conflict(f"Docker network {name} is used by {names}")
        if own is not None and joined:
            await self._disconnect(name, str(own["Id"]))
        try:
            await self._engine.call("DELETE", f"networks/{name}")
        except NotFound:
            pass

    async def connect_self(self, network: str, ip: str) -> None:
        own = await self.own_container(fresh=True)
        if own is None:
            raise NotFound("this process runs in no container of this engine: there is nothing to connect")
        present = own["NetworkSettings"]["Networks"].get(network)
        if present is not None:
            configured = ((present.get("IPAMConfig") or {}).get("IPv4Address")) or present.get("IPAddress")
            if configured == ip:
                return
            await self._disconnect(network, str(own["Id"]))
        body = {"Container": own["Id"], "EndpointConfig": {"IPAMConfig": {"IPv4Address": ip}}}
        await self._engine.call("POST", f"networks/{network}/connect", body=body)

    async def self_container(self) -> SelfContainer | None:
        own = await self.own_container(fresh=True)
        if own is None:
            return None
        networks = own["NetworkSettings"]["Networks"]
        return SelfContainer(
            str(own["Id"]),
            {
                name: SelfEndpoint(str(one.get("IPAddress") or ""), str(one.get("Gateway") or ""))
                for name, one in networks.items()
            },
            unix_time(own["State"].get("StartedAt")),
        )

    async def own_container(self, *, fresh: bool = False) -> Mapping[str, Any] | None:
        """Our own container as the engine inspects it (remembered unless `fresh`); None on a plain host."""
        if isinstance(self._self, bool) or (fresh and self._self is not None):
            self._self = await self._find_self()
        return self._self

    async def _find_self(self) -> Mapping[str, Any] | None:
        for name in candidates():
            try:
                found = await self._engine.call("GET", f"containers/{name}/json")
            except NotFound:
                continue
            if isinstance(found, dict) and found["State"]["Running"]:
                return found
        return None

    async def _inspect(self, name: str) -> dict[str, Any] | None:
        try:
            found = await self._engine.call("GET", f"networks/{name}")
        except NotFound:
            return None
        return dict(found)

    async def _disconnect(self, network: str, id: str) -> None:
        await self._engine.call("POST", f"networks/{network}/disconnect", body={"Container": id, "Force": True})

    async def _body(self, spec: NetworkSpec) -> dict[str, Any]:
        version = str((await self._engine.call("GET", "version")).get("Version", ""))
        return network_body(spec, version)


def network_body(spec: NetworkSpec, engine_version: str) -> dict[str, Any]:
    """The body of POST /networks/create; pure."""
    major = engine_version.partition(".")[0]
    options = dict(spec.options)
    if not (major.isdigit() and int(major) >= _GATEWAY_MODE_SINCE):
        options.pop(GATEWAY_MODE, None)
    config: dict[str, Any] = {"Subnet": spec.subnet, "Gateway": spec.gateway}
    if spec.aux_gateway:
        config["AuxiliaryAddresses"] = {_AUX_GATEWAY: spec.aux_gateway}
    return {
        "Name": spec.name,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Labels": dict(spec.labels),
        "Options": options,
        "IPAM": {"Driver": "default", "Config": [config]},
    }


def same_network(found: Mapping[str, Any], spec: NetworkSpec, but: tuple[str, ...] = ()) -> bool:
    """Whether an inspected network is what the spec asks for, options `but` apart; pure."""
    configs = (found.get("IPAM") or {}).get("Config") or []
    if len(configs) != 1:
        return False
    aux = (configs[0].get("AuxiliaryAddresses") or {}).get(_AUX_GATEWAY) or None
    labels, options = found.get("Labels") or {}, found.get("Options") or {}
    return (
        configs[0].get("Subnet") == spec.subnet
        and configs[0].get("Gateway") == spec.gateway
        and aux == spec.aux_gateway
        and all(labels.get(key) == value for key, value in spec.labels.items())
        and all(options.get(key) == value for key, value in spec.options.items() if key not in (GATEWAY_MODE, *but))
    )
