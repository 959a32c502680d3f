"""Rules about services and endpoints, and what of a service may change."""

from __future__ import annotations

from common import names
from master import traffic
from master.api.validation.faults import Faults
from master.api.validation.meta import validate_labels
from protos import core_pb2

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
OUTSIDE_TYPES = ("NodePort", "LoadBalancer")
POLICIES = ("Cluster", "Local")
HEADLESS = "None"
# Loopback, link-local, multicast and "this network": nothing that one machine can tell another.
UNREACHABLE = ("127.", "169.254.", "224.", "0.")


def validate_service(service: core_pb2.Service, faults: Faults) -> None:
    """What holds for a service by itself; addresses and node ports against others are the allocator's."""
    spec = service.spec
    faults.one_of("spec.type", spec.type, TYPES)
    external = spec.type == "ExternalName"
    headless = spec.clusterIP == HEADLESS
    if not spec.ports and not headless and not external:
        faults.add("spec.ports", "is required (at least one port; only a headless service may have none)")
    for index, port in enumerate(spec.ports):
        _port(f"spec.ports[{index}]", port, faults)
        if port.nodePort and spec.type not in OUTSIDE_TYPES:
            faults.add(
                f"spec.ports[{index}].nodePort",
                f"must not be set where type is {spec.type} (set spec.type: NodePort), got {port.nodePort}",
            )
        if not port.name and len(spec.ports) > 1:
            faults.add(f"spec.ports[{index}].name", "is required where a service has several ports (like http)")
    faults.unique(lambda index: f"spec.ports[{index}].name", (port.name for port in spec.ports))
    faults.unique(lambda index: f"spec.ports[{index}].port", (f"{port.port}/{port.protocol}" for port in spec.ports))
    faults.unique(
        lambda index: f"spec.ports[{index}].nodePort",
        (f"{port.nodePort}/{port.protocol}" if port.nodePort else "" for port in spec.ports),
    )
    validate_labels("spec.selector", spec.selector, faults)
    if external:
        _external_name(spec, faults)
    elif spec.externalName:
        faults.add("spec.externalName", f"must not be set where type is {spec.type} (set spec.type: ExternalName)")
    if headless and spec.type in OUTSIDE_TYPES:
        faults.add("spec.clusterIP", f"must not be None where type is {spec.type}")
    elif spec.clusterIP and not headless and not external:
        faults.address("spec.clusterIP", spec.clusterIP)
    if spec.clusterIPs and (len(spec.clusterIPs) > 1 or spec.clusterIPs[0] != spec.clusterIP):
        faults.add("spec.clusterIPs", f"must hold clusterIP and nothing else, got {list(spec.clusterIPs)}")
    _external_ips(spec, faults)
    _affinity(spec, faults)
    _policies(spec, faults)
    for fault in traffic.read_service(service)[1]:
        faults.add(fault.path, fault.message)


def _external_name(spec: core_pb2.ServiceSpec, faults: Faults) -> None:
    # A name with a dot at its end is the same name, said absolutely.
    name = spec.externalName.removesuffix(".")
    faults.required("spec.externalName", name, "like db.example.com", names.subdomain_fault)
    if spec.clusterIP:
        faults.add("spec.clusterIP", f"must be empty where type is ExternalName, got {spec.clusterIP!r}")


def _external_ips(spec: core_pb2.ServiceSpec, faults: Faults) -> None:
    for index, ip in enumerate(spec.externalIPs):
        path = f"spec.externalIPs[{index}]"
        faults.address(path, ip)
        if ip.startswith(UNREACHABLE):
            faults.add(path, f"must be an address others can reach, got {ip}")
    faults.unique(lambda index: f"spec.externalIPs[{index}]", spec.externalIPs)
    if spec.externalIPs and (spec.clusterIP == HEADLESS or spec.type == "ExternalName"):
        what = "a headless service" if spec.clusterIP == HEADLESS else "type ExternalName"
        faults.add("spec.externalIPs", f"must be empty for {what}: nothing listens for it")


def _affinity(spec: core_pb2.ServiceSpec, faults: Faults) -> None:
    faults.one_of("spec.sessionAffinity", spec.sessionAffinity, ("None", "ClientIP"))
    client, path = spec.sessionAffinityConfig.clientIP, "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    if spec.sessionAffinity != "ClientIP":
        if spec.HasField("sessionAffinityConfig"):
            faults.add("spec.sessionAffinityConfig", "must not be set where sessionAffinity is None")
        return
    most = traffic.LONGEST_AFFINITY_SECONDS
    if client.HasField("timeoutSeconds") and not 1 <= client.timeoutSeconds <= most:
        faults.add(path, f"must be 1-{most}, got {client.timeoutSeconds}")


def _policies(spec: core_pb2.ServiceSpec, faults: Faults) -> None:
    if spec.HasField("internalTrafficPolicy"):
        faults.one_of("spec.internalTrafficPolicy", spec.internalTrafficPolicy, POLICIES)
    if not spec.externalTrafficPolicy:
        return
    faults.one_of("spec.externalTrafficPolicy", spec.externalTrafficPolicy, POLICIES)
    # Kubernetes: only where something outside the cluster can get in.
    if spec.type not in OUTSIDE_TYPES and not spec.externalIPs:
        faults.add(
            "spec.externalTrafficPolicy",
            f"must not be set where type is {spec.type} and there are no externalIPs (set spec.type: NodePort)",
        )


def _port(path: str, port: core_pb2.ServicePort, faults: Faults) -> None:
    faults.port(f"{path}.port", port.port)
    if port.name:
        faults.check(f"{path}.name", port.name, names.label_fault)
    target = port.targetPort
    if target.type == 1:
        faults.required(f"{path}.targetPort", target.strVal, "a container port's number or name", names.port_name_fault)
    else:
        faults.port(f"{path}.targetPort", target.intVal)
    faults.one_of(f"{path}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
    if port.nodePort:
        faults.port(f"{path}.nodePort", port.nodePort)


def validate_service_update(new: core_pb2.Service, old: core_pb2.Service, faults: Faults) -> None:
    # To and from ExternalName, which has no address, the type may change.
    changed = old.spec.clusterIP and new.spec.clusterIP != old.spec.clusterIP
    if changed and new.spec.type != "ExternalName":
        faults.add(
            "spec.clusterIP",
            f"must not change, it is {old.spec.clusterIP}, got {new.spec.clusterIP!r}; "
            "delete the service and create it anew",
        )


def validate_endpoints(endpoints: core_pb2.Endpoints, faults: Faults) -> None:
    for number, subset in enumerate(endpoints.subsets):
        path = f"subsets[{number}]"
        if not subset.addresses and not subset.notReadyAddresses:
            faults.add(path, "must have addresses or notReadyAddresses")
        for name, addresses in (
            ("addresses", subset.addresses),
            ("notReadyAddresses", subset.notReadyAddresses),
        ):
            for index, address in enumerate(addresses):
                here = f"{path}.{name}[{index}]"
                faults.address(f"{here}.ip", address.ip)
                if address.ip.startswith(UNREACHABLE):
                    faults.add(f"{here}.ip", f"must be an address others can reach, got {address.ip}")
                if address.hostname:
                    faults.check(f"{here}.hostname", address.hostname, names.label_fault)
                if address.nodeName:
                    faults.check(f"{here}.nodeName", address.nodeName, names.subdomain_fault)
        for index, port in enumerate(subset.ports):
            here = f"{path}.ports[{index}]"
            faults.port(f"{here}.port", port.port)
            faults.one_of(f"{here}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
            if port.name:
                faults.check(f"{here}.name", port.name, names.label_fault)
            elif len(subset.ports) > 1:
                faults.add(f"{here}.name", "is required where there are several ports")
        faults.unique(lambda index, base=path: f"{base}.ports[{index}].name", (p.name for p in subset.ports))  # type: ignore[misc]
