"""The tables of the other kinds, and the columns that flags add."""

from __future__ import annotations

from typing import Any

import pytest

from cli.columns.registry import COLUMNS, columns
from common import kinds
from tests.cli.making import NOW, ago, make

POD_TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]},
}
READY = [{"type": "Ready", "status": "True"}]


def cells(obj: Any, *, wide: bool = True) -> dict[str, str]:
    return {column.heading: column.cell(obj, NOW) for column in columns(kinds.of(obj).kind, wide=wide)}


def test_every_kind_has_a_table() -> None:
    assert set(COLUMNS) == {kind.kind for kind in kinds.KINDS}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            make("Service", spec={"clusterIP": "10.96.0.7", "selector": {"b": "2", "a": "1"}, "type": "NodePort",
                                  "ports": [{"port": 80, "nodePort": 8765}, {"name": "s", "port": 443}]}),
            {"TYPE": "NodePort", "CLUSTER-IP": "10.96.0.7", "EXTERNAL-IP": "<none>",
             "PORT(S)": "80:8765/TCP,443/TCP", "AGE": "10m", "SELECTOR": "a=1,b=2"},
        ),
        (
            make("Service", spec={"clusterIP": "None", "ports": [{"port": 80}]}),
            {"TYPE": "ClusterIP", "CLUSTER-IP": "None", "PORT(S)": "80/TCP", "SELECTOR": "<none>"},
        ),
        (make("Service", spec={"type": "LoadBalancer"}), {"EXTERNAL-IP": "<pending>", "PORT(S)": "<none>"}),
        (
            make("ReplicationController", spec={"replicas": 3, "selector": {"app": "web"}, "template": POD_TEMPLATE},
                 status={"replicas": 2, "readyReplicas": 1}),
            {"DESIRED": "3", "CURRENT": "2", "READY": "1", "CONTAINERS": "a,b", "IMAGES": "x:1,y:2",
             "SELECTOR": "app=web"},
        ),
        (
            make("Endpoints", subsets=[{"addresses": [{"ip": f"10.244.0.{i}"} for i in range(5)],
                                        "ports": [{"port": 80}]}]),
            {"ENDPOINTS": "10.244.0.0:80,10.244.0.1:80,10.244.0.2:80 + 2 more..."},
        ),
        (make("Endpoints", subsets=[]), {"ENDPOINTS": "<none>"}),
        (make("Endpoints", subsets=[{"addresses": [{"ip": "10.244.0.9"}]}]), {"ENDPOINTS": "10.244.0.9"}),
        (make("ConfigMap", data={"a": "1"}, binaryData={"b": "AA=="}), {"DATA": "2"}),
        (make("Secret", data={"a": "AA=="}, type="Opaque"), {"TYPE": "Opaque", "DATA": "1"}),
        (make("Namespace", status={"phase": "Active"}), {"STATUS": "Active"}),
        (
            make("Node", metadata={"labels": {"node-role.kubernetes.io/worker": ""}}, spec={"unschedulable": True},
                 status={"conditions": READY, "addresses": [{"type": "InternalIP", "address": "172.30.0.2"}],
                         "nodeInfo": {"kubeletVersion": "0.1.0", "osImage": "Debian", "kernelVersion": "6.1",
                                      "containerRuntimeVersion": "docker://28"}}),
            {"STATUS": "Ready,SchedulingDisabled", "ROLES": "worker", "VERSION": "0.1.0",
             "INTERNAL-IP": "172.30.0.2", "EXTERNAL-IP": "<none>", "OS-IMAGE": "Debian", "KERNEL-VERSION": "6.1",
             "CONTAINER-RUNTIME": "docker://28"},
        ),
        (make("Node", status={"conditions": [{"type": "Ready", "status": "Unknown"}]}),
         {"STATUS": "NotReady", "ROLES": "<none>"}),
        (make("Node"), {"STATUS": "Unknown"}),
        (
            make("Deployment",
                 spec={"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": POD_TEMPLATE},
                 status={"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}),
            {"READY": "2/3", "UP-TO-DATE": "1", "AVAILABLE": "2", "CONTAINERS": "a,b", "IMAGES": "x:1,y:2",
             "SELECTOR": "app=web"},
        ),
        (
            make("ReplicaSet", spec={"replicas": 3, "template": POD_TEMPLATE, "selector": {
                     "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}},
                 status={"replicas": 2, "readyReplicas": 1}),
            {"DESIRED": "3", "CURRENT": "2", "READY": "1", "SELECTOR": "tier in (a,b)"},
        ),
        (
            make("Event", involvedObject={"kind": "Pod", "name": "web-1", "fieldPath": "spec.containers{a}"},
                 type="Warning", reason="BackOff", message="Back-off\nrestarting", count=4,
                 firstTimestamp=ago(240), lastTimestamp=ago(12), source={"component": "kubelet", "host": "node-1"}),
            {"LAST SEEN": "12s", "TYPE": "Warning", "REASON": "BackOff", "OBJECT": "pod/web-1",
             "SUBOBJECT": "spec.containers{a}", "SOURCE": "kubelet, node-1", "MESSAGE": "Back-off restarting",
             "FIRST SEEN": "4m", "COUNT": "4"},
        ),
    ],
)  # fmt: skip
def test_tables(obj: Any, expected: dict[str, str]) -> None:
    found = cells(obj)
    assert {heading: found[heading] for heading in expected} == expected


@pytest.mark.parametrize(
    ("kind", "headings"),
    [
        ("Pod", "NAME READY STATUS RESTARTS AGE"),
        ("Node", "NAME STATUS ROLES AGE VERSION"),
        ("Service", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("ReplicationController", "NAME DESIRED CURRENT READY AGE"),
        ("Secret", "NAME TYPE DATA AGE"),
        ("Deployment", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        ("ReplicaSet", "NAME DESIRED CURRENT READY AGE"),
        ("SomethingNew", "NAME AGE"),
    ],
)
def test_headings_without_wide(kind: str, headings: str) -> None:
    assert " ".join(column.heading for column in columns(kind)) == headings


def test_flags_add_columns() -> None:
    obj = make("ConfigMap", metadata={"labels": {"app": "web", "example.com/tier": "front"}})
    chosen = columns(
        "ConfigMap", namespaces=True, labels=True, label_columns=["example.com/tier", "app"], prefix="configmap/"
    )
    assert {column.heading: column.cell(obj, NOW) for column in chosen} == {
        "NAMESPACE": "default",
        "NAME": "configmap/web",
        "DATA": "0",
        "AGE": "10m",
        "TIER": "front",
        "APP": "web",
        "LABELS": "app=web,example.com/tier=front",
    }
