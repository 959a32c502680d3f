"""A slow, straightforward scheduler's filter, written from Kubernetes' rules over plain pods and nodes: it judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.quantity import milli
from protos import core_pb2, meta_pb2


@dataclass
class World:
    """Nodes by name, pods with the node they are on, and the labels of namespaces."""

    nodes: Mapping[str, core_pb2.Node]
    placed: list[tuple[core_pb2.Pod, str]]
    namespaces: Mapping[str, Mapping[str, str]]

    def fits(self, pod: core_pb2.Pod, name: str) -> bool:
        node = self.nodes[name]
        return (
            self.chosen(pod, node)
            and self.tolerated(pod, node)
            and self.has_room(pod, node)
            and self.near(pod, node)
            and self.apart(pod, node)
            and self.spread(pod, node)
        )

    # -- the node alone -----------------------------------------------------------------------

    def chosen(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        labels = node.metadata.labels
        if any(labels.get(key) != value for key, value in pod.spec.nodeSelector.items()):
            return False
        affinity = pod.spec.affinity.nodeAffinity
        if not affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
            return True
        terms = affinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
        return any(self._term(term, node) for term in terms)

    def _term(self, term: core_pb2.NodeSelectorTerm, node: core_pb2.Node) -> bool:
        if not term.matchExpressions and not term.matchFields:
            return False
        labels = dict(node.metadata.labels.items())
        fields = {"metadata.name": node.metadata.name}
        return all(_holds(one, labels) for one in term.matchExpressions) and all(
            _holds(one, fields) for one in term.matchFields
        )

    def tolerated(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        taints = [(t.key, t.value, t.effect) for t in node.spec.taints if t.effect != "PreferNoSchedule"]
        if node.spec.unschedulable:
            taints.append(("node.kubernetes.io/unschedulable", "", "NoSchedule"))
        for key, value, effect in taints:
            for t in pod.spec.tolerations:
                if t.effect in ("", effect) and (
                    (not t.key and t.operator == "Exists")
                    or (t.key == key and (t.operator == "Exists" or t.value == value))
                ):
                    break
            else:
                return False
        return True

    def has_room(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        here = [other for other, name in self.placed if name == node.metadata.name]
        if len(here) + 1 > int(node.status.allocatable["pods"].value):
            return False
        if _cpu(pod) and sum(map(_cpu, here)) + _cpu(pod) > milli(node.status.allocatable["cpu"].value):
            return False
        return not any(_ports(pod) & _ports(other) for other in here)

    # -- other pods ---------------------------------------------------------------------------

    def selected(self, term: core_pb2.PodAffinityTerm, owner: core_pb2.Pod, other: core_pb2.Pod) -> bool:
        names = set(term.namespaces)
        if term.HasField("namespaceSelector"):
            names |= {name for name, labels in self.namespaces.items() if _matches(term.namespaceSelector, labels)}
        elif not names:
            names = {owner.metadata.namespace}
        if other.metadata.namespace not in names or not term.HasField("labelSelector"):
            return False
        labels = other.metadata.labels
        own = owner.metadata.labels
        return (
            _matches(term.labelSelector, labels)
            and all(labels.get(key) == own[key] for key in term.matchLabelKeys if key in own)
            and all(labels.get(key) != own[key] for key in term.mismatchLabelKeys if key in own)
        )

    def _domain(self, name: str, key: str) -> str | None:
        labels = self.nodes[name].metadata.labels
        return labels.get(key, None)

    def near(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        terms = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
        if not terms:
            return True
        domains = [self._domain(node.metadata.name, term.topologyKey) for term in terms]
        if None in domains:
            return False
        matching = [name for other, name in self.placed if all(self.selected(term, pod, other) for term in terms)]
        there = [{self._domain(name, term.topologyKey) for name in matching} - {None} for term in terms]
        if not any(there) and all(self.selected(term, pod, pod) for term in terms):
            return True
        return all(domain in found for domain, found in zip(domains, there, strict=True))

    def apart(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        for other, name in self.placed:
            for owner, subject in ((pod, other), (other, pod)):
                for term in owner.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution:
                    here = self._domain(node.metadata.name, term.topologyKey)
                    same = here is not None and here == self._domain(name, term.topologyKey)
                    if same and self.selected(term, owner, subject):
                        return False
        return True

    def spread(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        hard = [one for one in pod.spec.topologySpreadConstraints if one.whenUnsatisfiable == "DoNotSchedule"]
        for one in hard:
            here = self._domain(node.metadata.name, one.topologyKey)
            if here is None:
                return False
            counted = [
                other
                for other in self.nodes.values()
                if all(each.topologyKey in other.metadata.labels for each in hard)
                and (one.nodeAffinityPolicy == "Ignore" or self.chosen(pod, other))
                and (one.nodeTaintsPolicy != "Honor" or self._untainted(pod, other))
            ]
            pods = {other.metadata.labels[one.topologyKey]: 0 for other in counted}
            names = {other.metadata.name for other in counted}
            for other, name in self.placed:
                if (
                    name in names
                    and other.metadata.namespace == pod.metadata.namespace
                    and not other.metadata.HasField("deletionTimestamp")
                    and self._spreads(one, pod, other)
                ):
                    domain = self._domain(name, one.topologyKey)
                    assert domain is not None
                    pods[domain] += 1
            low = min(pods.values(), default=0) if len(pods) >= one.minDomains else 0
            if pods.get(here, 0) + self._spreads(one, pod, pod) - low > one.maxSkew:
                return False
        return True

    def _untainted(self, pod: core_pb2.Pod, node: core_pb2.Node) -> bool:
        bare = core_pb2.Node()
        bare.CopyFrom(node)
        bare.spec.unschedulable = False
        return self.tolerated(pod, bare)

    def _spreads(self, one: core_pb2.TopologySpreadConstraint, pod: core_pb2.Pod, other: core_pb2.Pod) -> bool:
        own, labels = pod.metadata.labels, other.metadata.labels
        return (
            one.HasField("labelSelector")
            and _matches(one.labelSelector, labels)
            and all(labels.get(key) == own[key] for key in one.matchLabelKeys if key in own)
        )


def _cpu(pod: core_pb2.Pod) -> int:
    requests = pod.spec.containers[0].resources.requests
    return milli(requests["cpu"].value) if "cpu" in requests else 0


def _ports(pod: core_pb2.Pod) -> set[int]:
    return {port.hostPort for port in pod.spec.containers[0].ports}


def _matches(selector: meta_pb2.LabelSelector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.matchLabels.items()) and all(
        _holds(one, labels) for one in selector.matchExpressions
    )


def _holds(
    one: core_pb2.NodeSelectorRequirement | meta_pb2.LabelSelectorRequirement, labels: Mapping[str, str]
) -> bool:
    there = one.key in labels
    values: Sequence[str] = one.values
    if one.operator in ("Gt", "Lt"):
        try:
            number = int(labels[one.key])
        except (KeyError, ValueError):
            return False
        return number > int(values[0]) if one.operator == "Gt" else number < int(values[0])
    return {
        "In": there and labels[one.key] in values,
        "NotIn": not there or labels[one.key] not in values,
        "Exists": there,
        "DoesNotExist": not there,
    }[one.operator]
