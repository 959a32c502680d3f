"""Every kind whose rollout can be waited for; a new kind is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cli.rollouts import controller, deployment, others
from cli.rollouts.verdict import Verdict
from common.selectors import from_map, from_message


@dataclass(frozen=True)
class Rollout:
    """`verdict(object)` says how far it is; `managed`: `rollout restart` and the other verbs make sense for it."""

    verdict: Callable[[Any], Verdict]
    managed: bool = False


ROLLOUTS: dict[str, Rollout] = {
    "Deployment": Rollout(deployment.verdict, managed=True),
    "DaemonSet": Rollout(others.daemon_set, managed=True),
    "ReplicaSet": Rollout(others.replicas),
    "ReplicationController": Rollout(controller.verdict),
    "Pod": Rollout(others.pod),
    "Job": Rollout(others.job),
}


def pods_selector(obj: Any) -> str:
    """The label selector of a workload's pods as text; "" where it has none."""
    selector = getattr(getattr(obj, "spec", None), "selector", None)
    if selector is None:
        return ""
    return str(from_message(selector) if hasattr(selector, "matchLabels") else from_map(selector))


def newest_pods(obj: Any, pods: Sequence[Any], sets: Sequence[Any]) -> list[Any]:
    """The pods that a rollout waits for: of the newest ReplicaSet where there are several, else the object's own."""
    if type(obj).__name__ == "Deployment":
        new = deployment.newest_set(obj, deployment.owned(obj, sets))
        owner = new.metadata.uid if new is not None else ""
    else:
        owner = obj.metadata.uid
    return [pod for pod in pods if any(one.uid == owner for one in pod.metadata.ownerReferences)]
