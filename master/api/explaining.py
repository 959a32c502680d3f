"""Answers ExplainPod: what the scheduler thinks of every node for one pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from common.kinds import POD
from master.api.resources import Resources
from protos import control_pb2


class Refusal(Protocol):
    """What keeps the pod from a node; see master/scheduler/reasons.py."""

    @property
    def detail(self) -> str: ...
    @property
    def filter(self) -> str: ...


class View(Protocol):
    """One node; see master/scheduler/explain.py."""

    @property
    def node(self) -> str: ...
    @property
    def reason(self) -> Refusal | None: ...
    @property
    def scores(self) -> Mapping[str, float]: ...
    @property
    def total(self) -> float: ...


class Explainer(Protocol):
    """What is needed of the scheduler."""

    def explain(self, namespace: str, name: str) -> Sequence[View]: ...


def explain_pod(
    resources: Resources, explainer: Explainer, namespace: str, name: str
) -> control_pb2.ExplainPodResponse:
    """Raises NotFound when there is no such pod."""
    pod = resources.get(POD.kind, namespace, name)
    told = next((found for found in pod.status.conditions if found.type == "PodScheduled"), None)
    answer = control_pb2.ExplainPodResponse(
        node_name=pod.spec.nodeName,
        nominated_node_name="" if pod.spec.nodeName else pod.status.nominatedNodeName,
        message=told.message if told is not None and told.status != "True" else "",
    )
    for view in explainer.explain(namespace, name):
        node = answer.nodes.add(node=view.node, fits=view.reason is None, scores=view.scores, total=view.total)
        if view.reason is not None:
            node.filter, node.reason = view.reason.filter, view.reason.detail
    return answer
