"""Whether an object may be stored: every fault at once, each under its field's path; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from common import kinds, support
from common.errors import Fault, Invalid
from master.api.validation import apps, config, daemon, job, pod, policy, service, workload
from master.api.validation.faults import Faults
from master.api.validation.meta import validate_meta
from protos import apps_pb2, batch_pb2, core_pb2, policy_pb2, scheduling_pb2

_RULES: dict[type[Message], Callable[[Any, Faults], None]] = {
    core_pb2.Namespace: workload.validate_namespace,
    core_pb2.Node: workload.validate_node,
    core_pb2.Pod: pod.validate_pod,
    core_pb2.Service: service.validate_service,
    core_pb2.Endpoints: service.validate_endpoints,
    core_pb2.ReplicationController: workload.validate_replication_controller,
    core_pb2.ConfigMap: config.validate_config_map,
    core_pb2.Secret: config.validate_secret,
    core_pb2.Event: workload.validate_event,
    apps_pb2.ReplicaSet: apps.validate_replica_set,
    apps_pb2.Deployment: apps.validate_deployment,
    apps_pb2.DaemonSet: daemon.validate_daemon_set,
    apps_pb2.ControllerRevision: daemon.validate_revision,
    batch_pb2.Job: job.validate_job,
    policy_pb2.PodDisruptionBudget: policy.validate_budget,
    scheduling_pb2.PriorityClass: policy.validate_priority_class,
}

_UPDATES: dict[type[Message], Callable[[Any, Any, Faults], None]] = {
    core_pb2.Node: workload.validate_node_update,
    core_pb2.Pod: pod.validate_pod_update,
    core_pb2.Service: service.validate_service_update,
    core_pb2.ConfigMap: config.validate_config_map_update,
    core_pb2.Secret: config.validate_secret_update,
    apps_pb2.ReplicaSet: apps.validate_replica_set_update,
    apps_pb2.Deployment: apps.validate_deployment_update,
    apps_pb2.DaemonSet: daemon.validate_daemon_set_update,
    apps_pb2.ControllerRevision: daemon.validate_revision_update,
    batch_pb2.Job: job.validate_job_update,
    scheduling_pb2.PriorityClass: policy.validate_priority_class_update,
}


def validate(obj: Any, old: Any | None = None) -> tuple[Fault, ...]:
    """What is wrong with an object that has its defaults, and (with `old`) with changing the old one into it.

    Fields Sampan does not support are faults too, as in a manifest.
    """
    faults = Faults()
    validate_meta(obj.metadata, kinds.of(obj), faults)
    _RULES[type(obj)](obj, faults)
    for refusal in support.check(obj)[0]:
        faults.add(refusal.path, refusal.message)
    if old is not None and type(obj) in _UPDATES:
        _UPDATES[type(obj)](obj, old, faults)
    return tuple(faults.found)


def check(obj: Any, old: Any | None = None) -> None:
    """Raises Invalid, naming the object, when `validate` finds anything."""
    faults = validate(obj, old)
    if faults:
        raise Invalid(subject(obj), faults)


def subject(obj: Any) -> str:
    """What error messages call an object: `Pod "web"`."""
    name = obj.metadata.name or obj.metadata.generateName
    kind = kinds.of(obj).kind
    return f'{kind} "{name}"' if name else kind
