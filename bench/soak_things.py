"""The manifests of the soak."""

from __future__ import annotations

from typing import Any

from bench.soak_calls import SPACE
from bench.soak_inside import IMAGES

# Seconds without progress until a rollout with a bad image goes back.
DEADLINE = 6


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def deployment(name: str, replicas: int, image: str, **more: Any) -> dict[str, Any]:
    """`more`: `probes` of the container, `annotations` of the Deployment."""
    container: dict[str, Any] = {"name": "app", "image": image, "ports": [{"containerPort": 80}]}
    container |= more.get("probes", {})
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": SPACE, "annotations": more.get("annotations", {})},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": DEADLINE,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
            },
        },
    }


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


def budget(app: str) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": SPACE},
        "spec": {"maxUnavailable": 2, "selector": {"matchLabels": {"app": app}}},
    }


def replication(name: str, replicas: int, image: str) -> dict[str, Any]:
    template = deployment(name, replicas, image)["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"replicas": replicas, "selector": {"app": name}, "template": template},
    }


def daemons(version: int) -> dict[str, Any]:
    template = deployment("daemon", 1, IMAGES[version % len(IMAGES)])["spec"]["template"]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "daemon", "namespace": SPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "daemon"}},
            "template": template,
            "revisionHistoryLimit": 2,
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "40%"}},
        },
    }


def job(name: str, image: str, *, indexed: bool) -> dict[str, Any]:
    """Gone a second after its end."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "work", "image": image}]}
    spec: dict[str, Any] = {"completions": 3, "parallelism": 3, "backoffLimit": 1, "ttlSecondsAfterFinished": 1}
    spec["template"] = {"spec": pod}
    if indexed:
        spec["completionMode"] = "Indexed"
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": SPACE}, "spec": spec}


def stranger(number: int, space: str) -> dict[str, Any]:
    """A pod like no other, for which there is no node; it asks for one as a DaemonSet's pod does, of which a round has
    hundreds, so that what is remembered of either is of one size."""
    name = f"stranger-{number}"
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    template = deployment("stranger", 1, IMAGES[0])["spec"]["template"]
    meta = {"name": name, "namespace": space, "labels": {"stranger": str(number)}}
    spec = {**template["spec"], "affinity": {"nodeAffinity": required}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def probe(page: str, **more: int) -> dict[str, Any]:
    return {"httpGet": {"path": page, "port": 80}, "periodSeconds": 2, "failureThreshold": 1, **more}


FLAPPING = {"readinessProbe": probe("/flap"), "livenessProbe": probe("/live", failureThreshold=2)}
STEADY = {"readinessProbe": probe("/ready")}
