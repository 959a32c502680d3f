"""Kubernetes' defaults for services and endpoints, and what an update takes over from the stored service."""

from __future__ import annotations

from master.traffic import DEFAULT_AFFINITY_SECONDS
from protos import core_pb2


def default_service(service: core_pb2.Service) -> None:
    spec = service.spec
    spec.type = spec.type or "ClusterIP"
    spec.sessionAffinity = spec.sessionAffinity or "None"
    if spec.sessionAffinity == "ClientIP":
        client = spec.sessionAffinityConfig.clientIP
        if not client.HasField("timeoutSeconds"):
            client.timeoutSeconds = DEFAULT_AFFINITY_SECONDS
    if not spec.clusterIP and spec.clusterIPs:
        spec.clusterIP = spec.clusterIPs[0]
    if spec.type != "ExternalName":
        if not spec.HasField("internalTrafficPolicy"):
            spec.internalTrafficPolicy = "Cluster"
        if not spec.ipFamilies:
            spec.ipFamilies.append("IPv4")
        if not spec.HasField("ipFamilyPolicy"):
            spec.ipFamilyPolicy = "SingleStack"
    if spec.type in {"NodePort", "LoadBalancer"} or spec.externalIPs:
        spec.externalTrafficPolicy = spec.externalTrafficPolicy or "Cluster"
    if spec.type == "LoadBalancer" and not spec.HasField("allocateLoadBalancerNodePorts"):
        spec.allocateLoadBalancerNodePorts = True
    for port in spec.ports:
        port.protocol = port.protocol or "TCP"
        target = port.targetPort
        if (target.type == 0 and target.intVal == 0) or (target.type == 1 and not target.strVal):
            target.Clear()
            target.intVal = port.port


def carry_over(new: core_pb2.Service, old: core_pb2.Service) -> None:
    """What the master gave out stays where an update leaves it out, as in Kubernetes.

    Node ports go when the type no longer has them and the update did not ask for others.
    """
    if new.spec.type == "ExternalName":
        # It has no address: what the service had goes back, and a stale one in a manifest is not meant.
        if new.spec.clusterIP == old.spec.clusterIP and old.spec.type != "ExternalName":
            new.spec.clusterIP = ""
            del new.spec.clusterIPs[:]
    elif not new.spec.clusterIP:
        new.spec.clusterIP = old.spec.clusterIP
    if not new.spec.clusterIPs and new.spec.clusterIP == old.spec.clusterIP:
        new.spec.clusterIPs.extend(old.spec.clusterIPs)
    before = {(port.port, port.protocol or "TCP"): port.nodePort for port in old.spec.ports}
    for port in new.spec.ports:
        known = before.get((port.port, port.protocol or "TCP"), 0)
        if new.spec.type in {"NodePort", "LoadBalancer"}:
            port.nodePort = port.nodePort or known
        elif old.spec.type != new.spec.type and port.nodePort == known:
            port.nodePort = 0
    if new.spec.type not in {"NodePort", "LoadBalancer"} and old.spec.type in {"NodePort", "LoadBalancer"}:
        if not new.spec.externalIPs:
            new.spec.externalTrafficPolicy = ""
        new.spec.ClearField("allocateLoadBalancerNodePorts")


def default_endpoints(endpoints: core_pb2.Endpoints) -> None:
    for subset in endpoints.subsets:
        for port in subset.ports:
            port.protocol = port.protocol or "TCP"
