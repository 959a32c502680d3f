"""What a pod's spec says about nodes and about other pods, read into frozen values that compare by content; pure.

Rules: Kubernetes' affinity, anti-affinity and topology spread. What depends on the pod's own namespace or labels
(default namespace, matchLabelKeys) is settled here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.errors import BadRequest
from common.selectors import GREATER, IN, LESS, NOT_IN, OPERATORS, LabelSelector, Requirement, from_message
from protos import core_pb2, meta_pb2


@dataclass(frozen=True, eq=False)
class Crowd:
    """Pods of one namespace with the same labels. Equal crowds are one object (see Requests), so hashing is cheap."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


NOBODY = Crowd()


@dataclass(frozen=True)
class PodTerm:
    """Which pods a rule speaks about; `selector` None: none. `of_namespaces` chooses namespaces by their labels."""

    selector: LabelSelector | None
    namespaces: frozenset[str]
    of_namespaces: LabelSelector | None = None

    def matches(self, crowd: Crowd, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """`namespaces` are the labels of all namespaces by name."""
        if self.selector is None:
            return False
        if crowd.namespace not in self.namespaces and (
            self.of_namespaces is None or not self.of_namespaces.matches(namespaces.get(crowd.namespace, {}))
        ):
            return False
        return self.selector.matches(crowd.labels)

    def __str__(self) -> str:
        return str(self.selector) if self.selector else "every pod" if self.selector is not None else "no pod"


@dataclass(frozen=True)
class NodeTerm:
    """Labels and fields of a node that must all match; without any it matches no node, as in Kubernetes."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def __str__(self) -> str:
        return ",".join(str(one) for one in (*self.labels, *self.fields)) or "nothing"


@dataclass(frozen=True)
class Near:
    """Pods in the same domain of `key`: wanted there, or with a negative `weight` not. Required ones weigh 0."""

    who: PodTerm
    key: str
    weight: int = 0


@dataclass(frozen=True)
class Spread:
    """One topology spread constraint. `hard` is DoNotSchedule; `min_domains` 0 means unset."""

    who: PodTerm
    key: str
    max_skew: int
    hard: bool = True
    min_domains: int = 0
    honor_affinity: bool = True
    honor_taints: bool = False


@dataclass(frozen=True)
class Rules:
    """`nodes` None: no required node affinity; an empty tuple matches no node."""

    nodes: tuple[NodeTerm, ...] | None = None
    preferred_nodes: tuple[tuple[int, NodeTerm], ...] = ()
    together: tuple[Near, ...] = ()
    apart: tuple[Near, ...] = ()
    preferred: tuple[Near, ...] = ()
    spread: tuple[Spread, ...] = ()

    @property
    def ties(self) -> bool:
        """Whether other pods' places matter to this one."""
        return bool(self.together or self.apart or self.preferred or self.spread)


def speaks_of_pods(spec: core_pb2.PodSpec) -> bool:
    """Whether the rules of this spec depend on the pod's own namespace and labels."""
    affinity = spec.affinity
    return bool(
        spec.topologySpreadConstraints or affinity.HasField("podAffinity") or affinity.HasField("podAntiAffinity")
    )


def read_rules(spec: core_pb2.PodSpec, crowd: Crowd) -> Rules | None:
    """None where the spec has no such rules. Rules that cannot be read (validation refuses them) match nothing."""
    if not spec.HasField("affinity") and not spec.topologySpreadConstraints:
        return None
    affinity = spec.affinity
    required = affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    has_required = affinity.nodeAffinity.HasField("requiredDuringSchedulingIgnoredDuringExecution")
    near, apart = affinity.podAffinity, affinity.podAntiAffinity
    rules = Rules(
        nodes=tuple(_node_term(term) for term in required.nodeSelectorTerms) if has_required else None,
        preferred_nodes=tuple(
            (one.weight, _node_term(one.preference))
            for one in affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution
        ),
        together=tuple(_near(term, crowd) for term in near.requiredDuringSchedulingIgnoredDuringExecution),
        apart=tuple(_near(term, crowd) for term in apart.requiredDuringSchedulingIgnoredDuringExecution),
        preferred=(
            *(
                _near(one.podAffinityTerm, crowd, one.weight)
                for one in near.preferredDuringSchedulingIgnoredDuringExecution
            ),
            *(
                _near(one.podAffinityTerm, crowd, -one.weight)
                for one in apart.preferredDuringSchedulingIgnoredDuringExecution
            ),
        ),
        spread=tuple(_spread(one, crowd) for one in spec.topologySpreadConstraints),
    )
    return None if rules == Rules() else rules


def _node_term(term: core_pb2.NodeSelectorTerm) -> NodeTerm:
    return NodeTerm(_requirements(term.matchExpressions), _requirements(term.matchFields))


def _requirements(found: Iterable[core_pb2.NodeSelectorRequirement]) -> tuple[Requirement, ...]:
    read = []
    for one in found:
        values = frozenset(one.values)
        compares = one.operator in (GREATER, LESS)
        if (compares and not (len(values) == 1 and _whole(next(iter(values))))) or not (
            compares or one.operator in OPERATORS
        ):
            read.append(Requirement(one.key, IN, frozenset()))
        else:
            read.append(Requirement(one.key, one.operator, values))
    return tuple(read)


def _whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _near(term: core_pb2.PodAffinityTerm, crowd: Crowd, weight: int = 0) -> Near:
    named = frozenset(term.namespaces)
    chosen = _selector(term.namespaceSelector) if term.HasField("namespaceSelector") else None
    selector = _selector(term.labelSelector) if term.HasField("labelSelector") else None
    if selector is not None:
        selector = _with_own(selector, term.matchLabelKeys, crowd, IN)
        selector = _with_own(selector, term.mismatchLabelKeys, crowd, NOT_IN)
    home = frozenset((crowd.namespace,)) if not named and chosen is None else named
    return Near(PodTerm(selector, home, chosen), term.topologyKey, weight)


def _spread(one: core_pb2.TopologySpreadConstraint, crowd: Crowd) -> Spread:
    selector = _selector(one.labelSelector) if one.HasField("labelSelector") else None
    if selector is not None:
        selector = _with_own(selector, one.matchLabelKeys, crowd, IN)
    return Spread(
        PodTerm(selector, frozenset((crowd.namespace,))),
        one.topologyKey,
        max(1, one.maxSkew),
        one.whenUnsatisfiable != "ScheduleAnyway",
        one.minDomains if one.HasField("minDomains") else 0,
        one.nodeAffinityPolicy != "Ignore",
        one.nodeTaintsPolicy == "Honor",
    )


def _selector(message: meta_pb2.LabelSelector) -> LabelSelector | None:
    try:
        return from_message(message)
    except BadRequest:
        return None


def _with_own(selector: LabelSelector, keys: Iterable[str], crowd: Crowd, operator: str) -> LabelSelector:
    """The selector narrowed by the pod's own values of these labels; keys it does not carry are ignored."""
    own = [Requirement(key, operator, frozenset((crowd.labels[key],))) for key in keys if key in crowd.labels]
    return LabelSelector((*selector.requirements, *own)) if own else selector
