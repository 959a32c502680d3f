"""`hostPort` of this node's pods as routes of its own proxy; pure.

The engine could publish ports, too, but only on its own machine's addresses (which are not the node's when the agent is
in a container) and past the cluster's rules. So a pod's host ports are one more route, on this node alone, whose node
ports are the host ports: the same listeners, events (PortInUse) and draining as for services. Those with a `hostIP` are
a route more for each such address, as an external address is of a service.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from common.podstate import is_terminal
from common.routing import Endpoint, Route, RoutePort
from protos.core_pb2 import ContainerPort, Pod, PodStatus

# Not a namespace's name, so that no service has such a key and no name is made of it.
PREFIX = "@hostport/"
_EVERYWHERE = ("", "0.0.0.0")


def host_port_routes(pod: Pod, status: PodStatus) -> tuple[Route, ...]:
    """The routes of a pod that has an address; none when it wants no host ports, is not there or serves them itself."""
    if pod.spec.hostNetwork or not status.podIP or is_terminal(status.phase):
        return ()
    by_address: dict[str, list[ContainerPort]] = {}
    sidecars = (container for container in pod.spec.initContainers if container.restartPolicy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for port in container.ports:
            if port.hostPort:
                by_address.setdefault("" if port.hostIP in _EVERYWHERE else port.hostIP, []).append(port)
    return tuple(_route(pod, status.podIP, address, ports) for address, ports in sorted(by_address.items()))


def _route(pod: Pod, pod_ip: str, address: str, ports: Iterable[ContainerPort]) -> Route:
    """The route of the ports that are bound to this address; empty: to all of the node's."""
    # One slash, as in every key; a namespace's name has no dot, and a pod's no "@".
    key = f"{PREFIX}{pod.metadata.namespace}.{pod.metadata.name}" + (f"@{address}" if address else "")
    made = tuple(
        RoutePort(
            name=port.name or f"{port.containerPort}-{(port.protocol or 'TCP').lower()}",
            port=port.hostPort if address else port.containerPort,
            node_port=0 if address else port.hostPort,
            endpoints=(Endpoint(pod_ip, port.containerPort, pod.spec.nodeName, pod.metadata.name),),
            protocol=port.protocol or "TCP",
        )
        for port in ports
    )
    # The kernel sends no packet of the loopback's anywhere else, whatever it is translated to.
    mode = "asyncio" if address and ip_address(address).is_loopback else ""
    return Route(key, pod.metadata.uid, "", made, external_ips=(address,) if address else (), mode=mode)


def pod_of(key: str) -> tuple[str, str] | None:
    """Namespace and name of the pod whose host ports a route's key stands for; None for a service's."""
    if not key.startswith(PREFIX):
        return None
    namespace, _, name = key.removeprefix(PREFIX).partition("@")[0].partition(".")
    return namespace, name
