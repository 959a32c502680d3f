"""Objects the tests of this room begin with, from short manifests."""

from __future__ import annotations

from typing import Any

from common import manifest, yamldoc

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  containers:
  - {name: main, image: "nginx:1.27"}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"""

RC = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: nginx}]}
"""


def read(text: str) -> Any:
    """The one object of a manifest."""
    (document,) = yamldoc.load(text)
    return manifest.from_manifest(document.value).message


def pod(name: str = "web", **spec: Any) -> Any:
    """A pod that validates; keyword arguments are fields of its spec, as in a manifest."""
    (document,) = yamldoc.load(POD)
    document.value["metadata"]["name"] = name
    document.value["spec"].update(spec)
    return manifest.from_manifest(document.value).message


def service(name: str = "web", namespace: str = "default", **spec: Any) -> Any:
    (document,) = yamldoc.load(SERVICE)
    document.value["metadata"].update(name=name, namespace=namespace)
    document.value["spec"].update(spec)
    return manifest.from_manifest(document.value).message


def config(name: str, namespace: str = "default", **data: str) -> Any:
    meta = {"name": name, "namespace": namespace}
    return manifest.from_manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).message
