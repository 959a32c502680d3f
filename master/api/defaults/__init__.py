"""Fills in what a user may leave out, with Kubernetes' defaults; pure, and a second time changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from common import kinds
from master.api.defaults.apps import default_deployment, default_replica_set
from master.api.defaults.daemon import default_daemon_set, default_priority_class
from master.api.defaults.job import default_job
from master.api.defaults.pod import default_pod, default_pod_spec
from master.api.defaults.service import default_endpoints, default_service
from protos import apps_pb2, batch_pb2, core_pb2, scheduling_pb2

FINALIZER = "kubernetes"
NAME_LABEL = "kubernetes.io/metadata.name"


def apply_defaults(obj: Any) -> None:
    """Changes `obj` in place. Addresses and node ports are not defaults: the allocator gives them out."""
    kind = kinds.of(obj)
    if kind.namespaced and not obj.metadata.namespace:
        obj.metadata.namespace = "default"
    rule = _RULES.get(type(obj))
    if rule is not None:
        rule(obj)


def _replication_controller(rc: core_pb2.ReplicationController) -> None:
    spec = rc.spec
    if not spec.HasField("replicas"):
        spec.replicas = 1
    if not spec.HasField("template"):
        return
    labels = spec.template.metadata.labels
    if not spec.selector:
        spec.selector.update(labels)
    if not rc.metadata.labels:
        rc.metadata.labels.update(labels)
    default_pod_spec(spec.template.spec)


def _namespace(namespace: core_pb2.Namespace) -> None:
    if namespace.metadata.name:
        namespace.metadata.labels[NAME_LABEL] = namespace.metadata.name
    if not namespace.metadata.HasField("deletionTimestamp") and FINALIZER not in namespace.spec.finalizers:
        namespace.spec.finalizers.append(FINALIZER)
    namespace.status.phase = namespace.status.phase or "Active"


def _secret(secret: core_pb2.Secret) -> None:
    secret.type = secret.type or "Opaque"
    for key, value in secret.stringData.items():
        secret.data[key] = value.encode()
    secret.stringData.clear()


def _event(event: core_pb2.Event) -> None:
    event.type = event.type or "Normal"
    event.count = event.count or 1


_RULES: dict[type[Message], Callable[[Any], None]] = {
    core_pb2.Namespace: _namespace,
    core_pb2.Pod: default_pod,
    core_pb2.Service: default_service,
    core_pb2.Endpoints: default_endpoints,
    core_pb2.ReplicationController: _replication_controller,
    core_pb2.Secret: _secret,
    core_pb2.Event: _event,
    apps_pb2.ReplicaSet: default_replica_set,
    apps_pb2.Deployment: default_deployment,
    apps_pb2.DaemonSet: default_daemon_set,
    batch_pb2.Job: default_job,
    scheduling_pb2.PriorityClass: default_priority_class,
}
