"""The rollouts of kinds without revisions: DaemonSets, controllers of replicas, single pods; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.rollouts.verdict import DONE, FAILED, Verdict, waiting

if TYPE_CHECKING:
    from protos.apps_pb2 import DaemonSet
    from protos.batch_pb2 import Job
    from protos.core_pb2 import Pod


def daemon_set(obj: DaemonSet) -> Verdict:
    """By kubectl's rules."""
    name, status = f'daemon set "{obj.metadata.name}"', obj.status
    if obj.metadata.generation > status.observedGeneration:
        return Verdict("Waiting for daemon set spec update to be observed...")
    if obj.spec.updateStrategy.type == "OnDelete":
        return Verdict(f"{name} is updated as its pods are deleted (updateStrategy OnDelete)", DONE)
    wanted = status.desiredNumberScheduled
    if status.updatedNumberScheduled < wanted:
        return waiting(name, f"{status.updatedNumberScheduled} out of {wanted} new pods have been updated")
    if status.numberAvailable < wanted:
        return waiting(name, f"{status.numberAvailable} of {wanted} updated pods are available")
    return Verdict(f"{name} successfully rolled out", DONE)


def replicas(obj: Any) -> Verdict:
    """A ReplicaSet or ReplicationController: its pods are there and available (it does not replace old ones)."""
    name, status = f'{type(obj).__name__} "{obj.metadata.name}"', obj.status
    if obj.metadata.generation > status.observedGeneration:
        return Verdict(f"Waiting for {name} to be observed...")
    if status.replicas != obj.spec.replicas:
        return waiting(name, f"{status.replicas} of {obj.spec.replicas} replicas are there")
    if status.availableReplicas < obj.spec.replicas:
        return waiting(name, f"{status.availableReplicas} of {obj.spec.replicas} replicas are available")
    return Verdict(f"{name} successfully rolled out", DONE)


def pod(obj: Pod) -> Verdict:
    """A pod of its own: Ready, or done."""
    name, phase = f'pod "{obj.metadata.name}"', obj.status.phase
    if phase == "Failed":
        return Verdict(f"{name} failed", FAILED)
    ready = any(one.type == "Ready" and one.status == "True" for one in obj.status.conditions)
    if ready or phase == "Succeeded":
        return Verdict(f"{name} is {'ready' if ready else 'done'}", DONE)
    return Verdict(f"Waiting for {name} to be ready: {phase or 'Pending'}...")


def job(obj: Job) -> Verdict:
    """Complete or failed, as its conditions say."""
    name = f'job "{obj.metadata.name}"'
    for found in obj.status.conditions:
        if found.status == "True" and found.type == "Failed":
            return Verdict(f"{name} failed: {found.reason}: {found.message}".rstrip(": "), FAILED)
        if found.status == "True" and found.type == "Complete":
            return Verdict(f"{name} is complete", DONE)
    return Verdict(f"Waiting for {name}: {obj.status.succeeded} pods have succeeded, {obj.status.active} are active...")
