"""The pages of services, endpoints, controllers, namespaces, config maps, secrets and events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.ages import when
from cli.columns import events as event_columns
from cli.columns.network import addresses, external_ip, short
from cli.columns.table import pairs
from cli.describe import common
from cli.describe.page import NONE, Page
from cli.describe.template import phases, template

if TYPE_CHECKING:
    from protos.core_pb2 import (
        ConfigMap,
        Endpoints,
        Event,
        IntOrString,
        Namespace,
        Pod,
        ReplicationController,
        Secret,
        Service,
    )

# More addresses than in the table, but still a line.
_SHOWN_ENDPOINTS = 10


def service(page: Page, obj: Service, endpoints: Endpoints | None) -> None:
    """The service's ports, each with the pods that serve it now."""
    common.head(page, obj)
    common.marks(page, obj)
    page.field("Selector", pairs(obj.spec.selector))
    page.field("Type", obj.spec.type or "ClusterIP")
    page.field("IP", obj.spec.clusterIP or NONE)
    if external_ip(obj) != NONE:
        page.field("External IP", external_ip(obj))
    for port in obj.spec.ports:
        protocol = port.protocol or "TCP"
        page.field("Port", f"{port.name or '<unset>'}  {port.port}/{protocol}")
        page.field("TargetPort", f"{_target(port.targetPort) or port.port}/{protocol}")
        if port.nodePort:
            page.field("NodePort", f"{port.name or '<unset>'}  {port.nodePort}/{protocol}")
        found = [] if endpoints is None else list(addresses(endpoints, port.name))
        page.field("Endpoints", short(found, _SHOWN_ENDPOINTS))
    page.field("Session Affinity", _affinity(obj))
    for title, policy in (
        ("External Traffic Policy", obj.spec.externalTrafficPolicy),
        ("Internal Traffic Policy", obj.spec.internalTrafficPolicy),
    ):
        if policy:
            page.field(title, policy)


def _affinity(obj: Service) -> str:
    client = obj.spec.sessionAffinityConfig.clientIP
    seconds = f" ({client.timeoutSeconds} s)" if client.HasField("timeoutSeconds") else ""
    return (obj.spec.sessionAffinity or "None") + seconds


def _target(port: IntOrString) -> str:
    return port.strVal if port.type == 1 else str(port.intVal or "")


def endpoints(page: Page, obj: Endpoints) -> None:
    """Ready and unready addresses and the ports, subset by subset."""
    common.head(page, obj)
    common.marks(page, obj)
    with page.section("Subsets"):
        for subset in obj.subsets:
            page.field("Addresses", ",".join(a.ip for a in subset.addresses) or NONE)
            page.field("NotReadyAddresses", ",".join(a.ip for a in subset.notReadyAddresses) or NONE)
            ports = [f"{p.name or '<unset>'} {p.port}/{p.protocol or 'TCP'}" for p in subset.ports]
            page.several("Ports", ports)


def controller(page: Page, obj: ReplicationController, pods: Sequence[Pod]) -> None:
    """Wanted and present replicas, and the template. `pods` are those the controller selects."""
    common.head(page, obj)
    page.field("Selector", pairs(obj.spec.selector))
    common.marks(page, obj)
    page.field("Replicas", f"{obj.status.replicas} current / {obj.spec.replicas} desired")
    page.field("Pods Status", phases(pods))
    template(page, obj.spec.template)
    common.conditions(page, obj)


def namespace(page: Page, obj: Namespace) -> None:
    """Its phase, and on its way out what holds it."""
    common.head(page, obj, namespaced=False)
    common.marks(page, obj)
    page.field("Status", obj.status.phase or "Active")
    common.conditions(page, obj)


def config_map(page: Page, obj: ConfigMap) -> None:
    """The data as text, and the sizes of what is binary."""
    common.head(page, obj)
    common.marks(page, obj)
    with page.section("Data"):
        for key in sorted(obj.data):
            page.line(f"{key}: ({len(obj.data[key])} characters)")
            for text in obj.data[key].splitlines():
                page.line(f"  {text}")
        for key in sorted(obj.binaryData):
            page.line(f"{key}: ({len(obj.binaryData[key])} bytes, binary)")


def secret(page: Page, obj: Secret) -> None:
    """The keys and sizes, never the data."""
    common.head(page, obj)
    common.marks(page, obj)
    page.field("Type", obj.type or "Opaque")
    with page.section("Data"):
        for key in sorted(obj.data):
            page.field(key, f"{len(obj.data[key])} bytes")


def event(page: Page, obj: Event) -> None:
    """What happened to what."""
    common.head(page, obj)
    page.field("Object", event_columns.involved(obj))
    page.fields({"Type": obj.type, "Reason": obj.reason, "Message": event_columns.message(obj)})
    page.field("Count", event_columns.count(obj))
    page.field("First Seen", when(obj.firstTimestamp))
    page.field("Last Seen", when(obj.lastTimestamp))
    page.field("Source", event_columns.source(obj) or NONE)


def anything(page: Page, obj: Any) -> None:
    """The page of a kind that has none of its own: its manifest in a readable form."""
    from common.manifest import to_manifest

    common.head(page, obj, namespaced=bool(obj.metadata.namespace))
    common.marks(page, obj)
    for key, value in to_manifest(obj).items():
        if key not in ("apiVersion", "kind", "metadata"):
            page.field(key.capitalize(), json.dumps(value, indent=2, ensure_ascii=False))
