"""What the pods' room is told and what it remembers: plain data without I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import SampanError
from node_agent.care.settings import CareSettings
from node_agent.probes.health import Health
from protos.agent_pb2 import NodeStatusReport, ServiceRoute
from protos.core_pb2 import ConfigMap, NodeCondition, Pod, Secret

Ref = tuple[str, str]
"""Namespace and name."""


class PodNetwork(Protocol):
    """The node's pod network: its name in the engine, and the first and last address pods may have."""

    @property
    def name(self) -> str: ...
    @property
    def first(self) -> str | ipaddress.IPv4Address: ...
    @property
    def last(self) -> str | ipaddress.IPv4Address: ...


@dataclass(frozen=True)
class NodeContext:
    """Where pods run. `data_dir` is absolute; `capacity` overrides measured quantities by resource name."""

    cluster: str
    node: str
    data_dir: str
    node_ip: str
    pod_network: PodNetwork
    cluster_domain: str = "cluster.local"
    # Where the cluster's DNS answers; empty: pods use the node's resolver.
    cluster_dns: str = ""
    max_pods: int = 110
    capacity: Mapping[str, str] = field(default_factory=dict)
    # Seconds between two looks at all containers; events only make it faster.
    relist_seconds: float = 5.0
    care: CareSettings = field(default_factory=CareSettings)


@dataclass(frozen=True)
class Assignments:
    """What the master wants of this node: pods by uid, and what they refer to by (namespace, name).

    `held` has the uids of pods that are to go, but that some proxy may still send traffic to.
    """

    pods: Mapping[str, Pod] = field(default_factory=dict)
    configmaps: Mapping[Ref, ConfigMap] = field(default_factory=dict)
    secrets: Mapping[Ref, Secret] = field(default_factory=dict)
    services: Mapping[Ref, ServiceRoute] = field(default_factory=dict)
    held: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NodeMeasure:
    """The node's figures as quantities by resource name, its images and its conditions."""

    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]
    used: Mapping[str, str]
    images: tuple[str, ...]
    conditions: tuple[NodeCondition, ...]

    def report(self) -> NodeStatusReport:
        """The same as the message of the agent's protocol."""
        return NodeStatusReport(
            conditions=self.conditions,
            capacity=self.capacity,
            allocatable=self.allocatable,
            used=self.used,
            images=self.images,
        )


class ConfigError(SampanError):
    """A container can't be made from what is there: a missing ConfigMap, key, path. Retried when things change."""

    reason = "CreateContainerConfigError"


class PlaceError(SampanError):
    """What a pod needs before any container (volumes, an address) can't be had; `reason` is the event's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


FAILED_MOUNT = "FailedMount"
FAILED_SANDBOX = "FailedCreatePodSandBox"


EVICTED = "Evicted"
"""The reason of a pod that was ended because its node ran short of something."""

FRESH_PULL_SECONDS = 3.0
"""For how long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff."""


@dataclass(frozen=True)
class Trouble:
    """Why a container does not run yet: Kubernetes' waiting reason, seen at `since`, tried again at `until`."""

    reason: str
    message: str
    since: float
    until: float
    # How often in a row; the worker's backoff counts on it.
    count: int = 1


@dataclass(frozen=True)
class Final:
    """How the pod ended: phase Succeeded or Failed, with Kubernetes' reason and message where there is one.

    `grace` caps the pod's own grace, in seconds, for what still runs of it. `discard`: nothing of it stays on disk,
    neither containers with their logs nor volumes.
    """

    phase: str
    reason: str = ""
    message: str = ""
    grace: int | None = None
    discard: bool = False


@dataclass(frozen=True)
class Memory:
    """What a worker remembers of its pod between two plans; an agent's restart loses it without harm.

    `started_at`: when the node took the pod on. `terminated`, `killed`: when which container (id) was sent the
    signal. `trouble`: by container name, "" for the sandbox. `attempts`: the highest attempt made by container
    name. `in_flight`: keys of actions that run now. `held_until`: a pod that is deleted runs on until then, unless
    the master releases it before. `health`: by container id, of those whose probes or hooks have a say in it.
    `signalled`: when a container with a preStop hook (id) was sent its stop signal. `ending_since`: when the whole
    pod's end began. `images`: the engine's id of the image that a container (name) is about to be made of, where
    siblings wait to hear of it. Times are unix seconds.
    """

    started_at: float
    terminated: Mapping[str, float] = field(default_factory=dict)
    killed: Mapping[str, float] = field(default_factory=dict)
    trouble: Mapping[str, Trouble] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    in_flight: frozenset[str] = frozenset()
    final: Final | None = None
    cleaned: bool = False
    held_until: float | None = None
    health: Mapping[str, Health] = field(default_factory=dict)
    signalled: Mapping[str, float] = field(default_factory=dict)
    ending_since: float | None = None
    images: Mapping[str, str] = field(default_factory=dict)
