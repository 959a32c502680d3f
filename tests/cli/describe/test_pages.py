"""The pages of `describe`."""

from __future__ import annotations

from typing import Any

from cli.describe import registry
from cli.describe.page import Page
from common import kinds
from tests.cli.making import NOW, ago, make, pod, status


def draw(obj: Any, *, related: tuple[Any, ...] = (), events: tuple[Any, ...] = ()) -> str:
    return registry.draw(kinds.of(obj).kind, obj, related, events, NOW)


def squeezed(page: str) -> str:
    """The page with every run of blanks as one, for looking up lines."""
    return "\n".join(" ".join(line.split()) for line in page.splitlines())


def test_values_of_a_section_stand_in_line() -> None:
    page = Page()
    page.field("Name", "web")
    page.mapping("Labels", {"b": "2", "a": "1"})
    with page.section("Containers"):
        with page.section("app"):
            page.field("Image", "x:1")
            page.field("Restart Count", 0)
    page.several("Nothing", [])
    assert str(page) == (
        "Name:     web\n"
        "Labels:   a=1\n"
        "          b=2\n"
        "Containers:\n"
        "  app:\n"
        "    Image:          x:1\n"
        "    Restart Count:  0\n"
        "Nothing:  <none>\n"
    )


def test_a_crashing_pod() -> None:
    obj = pod(
        containerStatuses=[
            status(restarts=3, waiting={"reason": "CrashLoopBackOff", "message": "back-off 40s"},
                   last={"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(10)}),
        ],
        conditions=[{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        podIP="10.244.1.7",
        hostIP="172.30.0.2",
    )  # fmt: skip
    obj.spec.nodeName = "node-1"
    obj.spec.containers[0].env.add(name="MODE", value="test")
    obj.spec.containers[0].resources.limits["memory"].value = "64Mi"
    obj.metadata.ownerReferences.add(kind="ReplicationController", name="web", uid="u", controller=True)
    page = squeezed(draw(obj))
    for line in (
        "Name: web",
        "Node: node-1/172.30.0.2",
        "Status: CrashLoopBackOff",
        "IP: 10.244.1.7",
        "Controlled By: ReplicationController/web",
        "State: Waiting",
        "Reason: CrashLoopBackOff",
        "Message: back-off 40s",
        "Last State: Terminated",
        "Reason: OOMKilled",
        "Exit Code: 137",
        "Restart Count: 3",
        "memory: 64Mi",
        "MODE: test",
        "Ready False ContainersNotReady",
        "Events: <none>",
    ):
        assert line in page.splitlines(), line


def test_a_pending_pod_says_why_no_node_was_chosen() -> None:
    message = "0/2 nodes are available: node-1: needs 512Mi memory, 300Mi free; node-2: is cordoned"
    obj = pod(
        phase="Pending",
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    )
    page = squeezed(draw(obj)).splitlines()
    start = page.index("Not Scheduled: 0/2 nodes are available")
    assert page[start + 1 : start + 3] == ["node-1: needs 512Mi memory, 300Mi free", "node-2: is cordoned"]


def test_events_come_last_oldest_first() -> None:
    def event(reason: str, last: float, **fields: Any) -> Any:
        return make("Event", reason=reason, type="Normal", message=f"{reason} it", lastTimestamp=ago(last), **fields)

    page = draw(
        pod(),
        events=(
            event("Started", 5),
            event("Pulled", 60, count=3, firstTimestamp=ago(600), source={"component": "agent"}),
        ),
    )
    lines = squeezed(page).splitlines()
    assert lines[-2:] == ["Normal Pulled 60s (x3 over 10m) agent Pulled it", "Normal Started 5s Started it"]


def test_a_service_shows_who_serves_each_port() -> None:
    obj = make("Service", spec={"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "type": "NodePort", "ports": [
        {"name": "http", "port": 80, "targetPort": "web", "nodePort": 8765},
        {"name": "s", "port": 443, "targetPort": 8443},
    ]})  # fmt: skip
    served = make("Endpoints", subsets=[{"addresses": [{"ip": "10.244.0.2"}, {"ip": "10.244.1.2"}],
                                         "ports": [{"name": "http", "port": 8080}]}])  # fmt: skip
    page = squeezed(draw(obj, related=(served,))).splitlines()
    for line in ("Port: http 80/TCP", "TargetPort: web/TCP", "NodePort: http 8765/TCP",
                 "Endpoints: 10.244.0.2:8080,10.244.1.2:8080", "TargetPort: 8443/TCP",
                 "Endpoints: <none>"):  # fmt: skip
        assert line in page, line
    query = registry.query("Service", obj)
    assert query is not None and (query.kind, query.fields) == ("Endpoints", "metadata.name=web")


def test_a_node_shows_what_its_pods_ask_for() -> None:
    obj = make("Node", name="node-1", status={"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "110"}})
    busy = pod()
    busy.spec.containers[0].resources.requests["cpu"].value = "500m"
    busy.spec.containers[0].resources.requests["memory"].value = "256Mi"
    ended = pod(phase="Succeeded")
    page = squeezed(draw(obj, related=(busy, ended))).splitlines()
    assert "Pods: 1 running or about to" in page
    assert "default web 500m 0 256Mi 0" in page
    assert "cpu 500m (25%) 0 (0%)" in page
    assert "memory 256Mi (25%) 0 (0%)" in page
    assert "pods 1 (0%) -" in page


def test_a_controller_counts_its_pods() -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}}
    obj = make("ReplicationController", spec={"replicas": 3, "selector": {"app": "web"}, "template": template},
               status={"replicas": 2})  # fmt: skip
    page = squeezed(draw(obj, related=(pod(), pod(phase="Pending")))).splitlines()
    assert "Replicas: 2 current / 3 desired" in page
    assert "Pods Status: 1 Running / 1 Waiting / 0 Succeeded / 0 Failed" in page
    query = registry.query("ReplicationController", obj)
    assert query is not None and query.labels == "app=web"


def test_a_secret_never_shows_its_data() -> None:
    page = draw(make("Secret", data={"password": "aHVudGVyMg=="}))
    assert "hunter2" not in page and "aHVudGVyMg" not in page
    assert "password: 7 bytes" in squeezed(page).splitlines()


def test_every_kind_has_a_page() -> None:
    for kind in kinds.KINDS:
        assert "Name:" in draw(make(kind.kind))


def test_a_config_map_shows_its_data() -> None:
    page = draw(make("ConfigMap", data={"conf": "a=1\nb=2\n"}))
    assert "  conf: (8 characters)\n    a=1\n    b=2\n" in page


def test_a_deployment_and_its_replica_sets() -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "web:2"}]}}

    def replica_set(name: str, image: str, replicas: int) -> Any:
        spec = {"containers": [{"name": "a", "image": image}]}
        return make(
            "ReplicaSet",
            name,
            metadata={
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": True}
                ]
            },
            spec={
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": name}}, "spec": spec},
            },
            status={"replicas": replicas},
        )

    obj = make(
        "Deployment",
        metadata={"uid": "u"},
        spec={
            "replicas": 3,
            "paused": True,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": template,
        },
        status={"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3, "unavailableReplicas": 1},
    )
    sets = (replica_set("web-1", "web:1", 3), replica_set("web-2", "web:2", 1), replica_set("web-0", "web:0", 0))
    page = squeezed(draw(obj, related=sets))
    assert "Replicas: 3 desired | 1 updated | 4 total | 3 available | 1 unavailable" in page
    assert "RollingUpdateStrategy: 0 max unavailable, 25% max surge" in page
    assert "Paused: true" in page and "Image: web:2" in page
    assert "OldReplicaSets: web-1 (3/3 replicas created)" in page
    assert "NewReplicaSet: web-2 (1/1 replicas created)" in page
    found = registry.query("Deployment", obj)
    assert found is not None and (found.kind, found.labels) == ("ReplicaSet", "app=web")
    page = squeezed(draw(sets[0], related=(pod(),)))
    assert "Controlled By: Deployment/web" in page and "Replicas: 3 current / 3 desired" in page
    assert "Pods Status: 1 Running / 0 Waiting / 0 Succeeded / 0 Failed" in page
