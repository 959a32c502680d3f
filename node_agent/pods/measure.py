"""The node's capacity, use and conditions from what its machine shows; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.quantity import bytes_quantity, milli_quantity, value
from node_agent.pods.model import NodeMeasure
from node_agent.pods.status import timestamp
from node_agent.runtime.seam import ImageSeen, Machine
from protos.core_pb2 import NodeCondition

# The machine's own, as the kubelet's default eviction threshold.
_RESERVED_MEMORY = 100 * 1024 * 1024
_IMAGES = 50


def measure(
    machine: Machine,
    images: Sequence[ImageSeen],
    *,
    cpu_cores_used: float,
    max_pods: int,
    overrides: Mapping[str, str],
    pressures: Sequence[NodeCondition],
    before: Sequence[NodeCondition],
    now: float,
) -> NodeMeasure:
    """`pressures`: the conditions that node care sees; `before`: the last ones, for their transition times.

    `overrides`: capacity given by the user.
    """
    capacity = {
        "cpu": str(machine.cpus),
        "memory": bytes_quantity(machine.memory),
        "pods": str(max_pods),
        "ephemeral-storage": bytes_quantity(machine.disk),
        **overrides,
    }
    conditions = (
        *pressures,
        NodeCondition(type="Ready", status="True", reason="AgentReady", message="the container engine answers"),
    )
    return NodeMeasure(
        capacity=capacity,
        allocatable=capacity | _allocatable_memory(capacity["memory"]),
        used={
            "cpu": milli_quantity(round(max(0.0, cpu_cores_used) * 1000)),
            "memory": bytes_quantity(max(0, machine.memory - machine.memory_available)),
        },
        images=tuple(sorted(name for image in images for name in image.names)[:_IMAGES]),
        conditions=with_times(conditions, before, now),
    )


def _allocatable_memory(capacity: str) -> dict[str, str]:
    """What is left of the memory above the eviction threshold: the machine itself keeps that."""
    return {"memory": bytes_quantity(max(0, value(capacity) - _RESERVED_MEMORY))}


def engine_down(last: NodeMeasure | None, message: str, before: Sequence[NodeCondition], now: float) -> NodeMeasure:
    """The measure of a node whose engine does not answer: not Ready, the figures as they were."""
    ready = NodeCondition(type="Ready", status="False", reason="EngineUnavailable", message=message)
    kept = [one for one in before if one.type != "Ready"]
    conditions = with_times((*kept, ready), before, now)
    if last is None:
        return NodeMeasure({}, {}, {}, (), conditions)
    return NodeMeasure(last.capacity, last.allocatable, last.used, last.images, conditions)


def with_times(
    conditions: Sequence[NodeCondition], before: Sequence[NodeCondition], now: float
) -> tuple[NodeCondition, ...]:
    """Copies with lastTransitionTime: now where the status changed, else as before."""
    times = {one.type: one for one in before}
    result = []
    for one in conditions:
        copy = NodeCondition()
        copy.CopyFrom(one)
        was = times.get(one.type)
        if was is not None and was.status == one.status and was.HasField("lastTransitionTime"):
            copy.lastTransitionTime.CopyFrom(was.lastTransitionTime)
        else:
            copy.lastTransitionTime.CopyFrom(timestamp(now))
        result.append(copy)
    return tuple(result)
