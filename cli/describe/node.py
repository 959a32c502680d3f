"""The page of a node: its machine, its conditions, and what of it the pods have asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from cli.columns.nodes import roles
from cli.describe import common
from cli.describe.page import NONE, Page
from common.quantity import QuantityError, format_bytes, milli, milli_quantity, value

if TYPE_CHECKING:
    from protos.core_pb2 import Node, Pod


def node(page: Page, obj: Node, pods: Sequence[Pod]) -> None:
    """Everything but the events. `pods` are those placed on the node; the ones that ended are left out."""
    common.head(page, obj, namespaced=False)
    page.field("Roles", roles(obj))
    common.marks(page, obj)
    page.several("Taints", (f"{t.key}{'=' + t.value if t.value else ''}:{t.effect}" for t in obj.spec.taints))
    page.field("Unschedulable", str(obj.spec.unschedulable).lower())
    common.conditions(page, obj)
    if obj.status.addresses:
        with page.section("Addresses"):
            for address in obj.status.addresses:
                page.field(address.type, address.address)
    common.quantities(page, "Capacity", obj.status.capacity)
    common.quantities(page, "Allocatable", obj.status.allocatable)
    info = obj.status.nodeInfo
    with page.section("System Info"):
        page.fields(
            {
                "Machine ID": info.machineID,
                "System UUID": info.systemUUID,
                "Boot ID": info.bootID,
                "Kernel Version": info.kernelVersion,
                "OS Image": info.osImage,
                "Operating System": info.operatingSystem,
                "Architecture": info.architecture,
                "Container Runtime": info.containerRuntimeVersion,
                "Agent Version": info.kubeletVersion,
                "Proxy Version": info.kubeProxyVersion,
            }
        )
    page.field("Pod CIDR", obj.spec.podCIDR or NONE)
    _pods(page, obj, [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")])


def _pods(page: Page, obj: Node, pods: Sequence[Pod]) -> None:
    with page.section("Pods", f"{len(pods)} running or about to"):
        if pods:
            page.table(
                ("Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits"),
                [
                    (pod.metadata.namespace, pod.metadata.name, _cpu([pod], False), _cpu([pod], True),
                     _memory([pod], False), _memory([pod], True))
                    for pod in pods
                ],
            )  # fmt: skip
    with page.section("Allocated Resources"):
        page.table(
            ("Resource", "Requests", "Limits"),
            [
                ("cpu", _share(_cpu(pods, False), obj, "cpu", milli), _share(_cpu(pods, True), obj, "cpu", milli)),
                (
                    "memory",
                    _share(_memory(pods, False), obj, "memory", value),
                    _share(_memory(pods, True), obj, "memory", value),
                ),
                ("pods", _share(str(len(pods)), obj, "pods", value), "-"),
            ],
        )


def _cpu(pods: Iterable[Pod], limits: bool) -> str:
    return milli_quantity(sum(needs(pod, "cpu", milli, limits=limits) for pod in pods))


def _memory(pods: Iterable[Pod], limits: bool) -> str:
    return format_bytes(sum(needs(pod, "memory", value, limits=limits) for pod in pods))


def needs(pod: Pod, name: str, read: Callable[[str], int], *, limits: bool = False) -> int:
    """What a pod asks for in `read`'s unit: its containers together, or its largest init container if that is more."""

    def amounts(containers: Iterable[object]) -> list[int]:
        found = []
        for container in containers:
            amount = getattr(container.resources, "limits" if limits else "requests")  # type: ignore[attr-defined]
            found.append(read(amount[name].value) if name in amount else 0)
        return found

    # As in the scheduler: sidecars last as long as the pod.
    peak = beside = 0
    for container, amount in zip(pod.spec.initContainers, amounts(pod.spec.initContainers)):
        if container.restartPolicy == "Always":
            beside += amount
        else:
            peak = max(peak, beside + amount)
    return max(sum(amounts(pod.spec.containers)) + beside, peak)


def _share(amount: str, obj: Node, name: str, read: Callable[[str], int]) -> str:
    """ "250m (12%)" of what the node can give."""
    try:
        whole = read(obj.status.allocatable[name].value) if name in obj.status.allocatable else 0
        return f"{amount} ({100 * read(amount) // whole}%)" if whole else amount
    except QuantityError:
        return amount
