"""The rollout of a ReplicationController: its pods, and those of an older template while they are replaced; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.rollouts.verdict import DONE, Verdict, waiting

if TYPE_CHECKING:
    from protos.core_pb2 import ReplicationController

ROLLING = "sampan.dev/rolling-update"
OUTDATED = "OutdatedPods"


def verdict(obj: ReplicationController) -> Verdict:
    """Observed, no pod of an older template left where pods are replaced, and all available."""
    name, status = f'replication controller "{obj.metadata.name}"', obj.status
    if obj.metadata.generation > status.observedGeneration:
        return Verdict(f"Waiting for {name} to be observed...")
    old = next((found for found in status.conditions if found.type == OUTDATED and found.status == "True"), None)
    if old is not None:
        return waiting(name, old.message)
    if status.replicas != obj.spec.replicas:
        return waiting(name, f"{status.replicas} of {obj.spec.replicas} replicas are there")
    if status.availableReplicas < obj.spec.replicas:
        return waiting(name, f"{status.availableReplicas} of {obj.spec.replicas} replicas are available")
    return Verdict(f"{name} successfully rolled out", DONE)
