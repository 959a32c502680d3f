"""The kinds Sampan serves, and how a user may name them; a new kind is one row here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from google.protobuf.message import Message

from common.errors import BadRequest
from protos import apps_pb2, batch_pb2, core_pb2, policy_pb2, scheduling_pb2

Resource: TypeAlias = (
    core_pb2.Namespace
    | core_pb2.Node
    | core_pb2.Pod
    | core_pb2.Service
    | core_pb2.Endpoints
    | core_pb2.ReplicationController
    | core_pb2.ConfigMap
    | core_pb2.Secret
    | core_pb2.Event
    | apps_pb2.ReplicaSet
    | apps_pb2.Deployment
    | apps_pb2.DaemonSet
    | apps_pb2.ControllerRevision
    | batch_pb2.Job
    | policy_pb2.PodDisruptionBudget
    | scheduling_pb2.PriorityClass
)


class UnknownKind(BadRequest):
    """A kind or resource name that is not served; the sentence says what would be."""


@dataclass(frozen=True)
class Kind:
    """One kind: its names as Kubernetes has them and its messages."""

    kind: str
    plural: str
    message: type[Resource]
    list_message: type[Message]
    group: str = ""
    version: str = "v1"
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = True

    @property
    def api_version(self) -> str:
        """What a manifest says, for instance ``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def resource(self) -> str:
        """The plural with the group, as error messages name it: ``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def __str__(self) -> str:
        return self.kind


NAMESPACE = Kind(
    "Namespace", "namespaces", core_pb2.Namespace, core_pb2.NamespaceList, short_names=("ns",), namespaced=False
)
NODE = Kind("Node", "nodes", core_pb2.Node, core_pb2.NodeList, short_names=("no",), namespaced=False)
POD = Kind("Pod", "pods", core_pb2.Pod, core_pb2.PodList, short_names=("po",))
SERVICE = Kind("Service", "services", core_pb2.Service, core_pb2.ServiceList, short_names=("svc",))
ENDPOINTS = Kind(
    "Endpoints", "endpoints", core_pb2.Endpoints, core_pb2.EndpointsList, short_names=("ep",), has_status=False
)
REPLICATION_CONTROLLER = Kind(
    "ReplicationController",
    "replicationcontrollers",
    core_pb2.ReplicationController,
    core_pb2.ReplicationControllerList,
    short_names=("rc",),
)
CONFIG_MAP = Kind(
    "ConfigMap", "configmaps", core_pb2.ConfigMap, core_pb2.ConfigMapList, short_names=("cm",), has_status=False
)
SECRET = Kind("Secret", "secrets", core_pb2.Secret, core_pb2.SecretList, has_status=False)
EVENT = Kind("Event", "events", core_pb2.Event, core_pb2.EventList, short_names=("ev",), has_status=False)
REPLICA_SET = Kind(
    "ReplicaSet", "replicasets", apps_pb2.ReplicaSet, apps_pb2.ReplicaSetList, "apps", short_names=("rs",)
)
DEPLOYMENT = Kind(
    "Deployment", "deployments", apps_pb2.Deployment, apps_pb2.DeploymentList, "apps", short_names=("deploy",)
)
DAEMON_SET = Kind("DaemonSet", "daemonsets", apps_pb2.DaemonSet, apps_pb2.DaemonSetList, "apps", short_names=("ds",))
CONTROLLER_REVISION = Kind(
    "ControllerRevision",
    "controllerrevisions",
    apps_pb2.ControllerRevision,
    apps_pb2.ControllerRevisionList,
    "apps",
    has_status=False,
)
JOB = Kind("Job", "jobs", batch_pb2.Job, batch_pb2.JobList, "batch")
POD_DISRUPTION_BUDGET = Kind(
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    policy_pb2.PodDisruptionBudget,
    policy_pb2.PodDisruptionBudgetList,
    "policy",
    short_names=("pdb",),
)
PRIORITY_CLASS = Kind(
    "PriorityClass",
    "priorityclasses",
    scheduling_pb2.PriorityClass,
    scheduling_pb2.PriorityClassList,
    "scheduling.k8s.io",
    short_names=("pc",),
    namespaced=False,
    has_status=False,
)

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    REPLICATION_CONTROLLER,
    CONFIG_MAP,
    SECRET,
    EVENT,
    REPLICA_SET,
    DEPLOYMENT,
    DAEMON_SET,
    CONTROLLER_REVISION,
    JOB,
    POD_DISRUPTION_BUDGET,
    PRIORITY_CLASS,
)

# Kinds of Kubernetes that Sampan does not serve: kind -> (apiVersion, plural, short names).
NOT_YET: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "StatefulSet": ("apps/v1", "statefulsets", ("sts",)),
        "CronJob": ("batch/v1", "cronjobs", ("cj",)),
        "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers", ("hpa",)),
        "Ingress": ("networking.k8s.io/v1", "ingresses", ("ing",)),
        "IngressClass": ("networking.k8s.io/v1", "ingressclasses", ()),
        "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", ("netpol",)),
        "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices", ()),
        "PersistentVolume": ("v1", "persistentvolumes", ("pv",)),
        "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", ("pvc",)),
        "StorageClass": ("storage.k8s.io/v1", "storageclasses", ("sc",)),
        "ServiceAccount": ("v1", "serviceaccounts", ("sa",)),
        "LimitRange": ("v1", "limitranges", ("limits",)),
        "ResourceQuota": ("v1", "resourcequotas", ("quota",)),
        "PodTemplate": ("v1", "podtemplates", ()),
        "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses", ()),
        "Lease": ("coordination.k8s.io/v1", "leases", ()),
        "Role": ("rbac.authorization.k8s.io/v1", "roles", ()),
        "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", ()),
        "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", ()),
        "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", ()),
        "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", ("crd", "crds")),
    }
)

_BY_KIND = {kind.kind: kind for kind in KINDS}
_BY_MESSAGE: dict[str, Kind] = {kind.message.DESCRIPTOR.full_name: kind for kind in KINDS}
_BY_LIST: dict[str, Kind] = {kind.list_message.DESCRIPTOR.full_name: kind for kind in KINDS}
_BY_NAME = {name: kind for kind in KINDS for name in (kind.plural, kind.singular, kind.kind.lower(), *kind.short_names)}
_NOT_YET_NAMES = {name: kind for kind, (_, plural, short) in NOT_YET.items() for name in (plural, kind.lower(), *short)}


def by_kind(name: str) -> Kind:
    """The kind of exactly this name, as in a manifest. Raises UnknownKind."""
    found = _BY_KIND.get(name)
    if found is None:
        raise UnknownKind(_explain(name, NOT_YET[name][0] if name in NOT_YET else None))
    return found


def by_type(api_version: str, kind: str) -> Kind:
    """The kind a manifest's apiVersion and kind name. Raises UnknownKind."""
    found = _BY_KIND.get(kind)
    if found is None:
        raise UnknownKind(_explain(kind, api_version))
    if found.api_version != api_version:
        raise UnknownKind(f'kind {kind} has apiVersion "{found.api_version}", got "{api_version}"')
    return found


def by_resource(text: str) -> Kind:
    """The kind a user names: plural, singular or short, in any case, also ``pods.v1`` and ``pods.v1.``.

    Raises UnknownKind.
    """
    name, _, rest = text.strip().lower().partition(".")
    found = _BY_NAME.get(name)
    if found is not None and rest.strip(".") in _qualifiers(found):
        return found
    if found is not None:
        raise UnknownKind(f'resource "{text}" is not served: {found.plural} are of {found.api_version}')
    if name in _NOT_YET_NAMES:
        kind = _NOT_YET_NAMES[name]
        raise UnknownKind(_explain(kind, NOT_YET[kind][0]))
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f', did you mean "{close[0]}"?' if close else ""
    known = ", ".join(sorted(kind.plural for kind in KINDS))
    raise UnknownKind(f'unknown resource "{text}"{hint} (known: {known})')


def of(message: Message) -> Kind:
    """The kind of a message. Raises UnknownKind for a message that is not a resource."""
    found = _BY_MESSAGE.get(message.DESCRIPTOR.full_name)
    if found is None:
        raise UnknownKind(f"{message.DESCRIPTOR.name} is not a resource")
    return found


def find(message: Message) -> Kind | None:
    """The kind of a message, or None for a message that is not a resource."""
    return _BY_MESSAGE.get(message.DESCRIPTOR.full_name)


def find_list(message: Message) -> Kind | None:
    """The kind of the items of a list message such as PodList, or None."""
    return _BY_LIST.get(message.DESCRIPTOR.full_name)


def _qualifiers(kind: Kind) -> set[str]:
    """What may follow the first dot: nothing, the group, the version, or version and group."""
    return {"", kind.group, kind.version, f"{kind.version}.{kind.group}".strip(".")}


def _explain(kind: str, api_version: str | None) -> str:
    if kind in NOT_YET:
        return f"kind {kind} ({api_version or NOT_YET[kind][0]}) is not supported yet"
    lower = {name.lower(): name for name in (*_BY_KIND, *NOT_YET)}
    close = difflib.get_close_matches(kind.lower(), lower, n=1)
    hint = f', did you mean "{lower[close[0]]}"?' if close else ""
    known = ", ".join(sorted(_BY_KIND))
    return f'unknown kind "{kind}"{hint} (known: {known})'
