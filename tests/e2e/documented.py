"""Kubernetes' own documentation examples as data: what comes before each, and the state that its page describes."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A manifest with one pod: what its tutorial makes first, the phase, and what a container's log says then.

    `inside` is a command in the pod's only (or first) container and what it prints then; `ended` are containers that
    have come to their end in a pod that runs.
    """

    file: str
    pod: str
    phase: str
    logs: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    first: str = ""
    restarts: int | None = 0
    inside: tuple[str, str] = ("", "")
    ended: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Every example in a namespace of its own: several use the same names."""
        return self.namespace or space(self.file)


@dataclass(frozen=True)
class Workload:
    """A manifest with one workload, how many of its pods are ready in the end, and what there is before it."""

    file: str
    kind: str
    name: str
    ready: int
    first: str = ""
    also: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return space(self.file)


def space(file: str) -> str:
    """A namespace's name made of a file's."""
    return re.sub("[^a-z0-9]+", "-", file.removesuffix(".yaml"))[-50:].strip("-")


_CONFIG = "{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}, data: %s}"
# Of the page "Configure a Pod to Use a ConfigMap".
_SPECIAL = _CONFIG % ("special-config", "{SPECIAL_LEVEL: very, SPECIAL_TYPE: charm}")
# Of the reference page on projected volumes; the names are the manifest's own.
_PROJECTED = f"""{_CONFIG % ("myconfigmap", "{config: calm}")}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: mysecret}}, stringData: {{username: admin}}}}"""
# A Kubernetes has this Service of its own in every namespace's environment; Sampan's master serves no REST on 443.
_KUBERNETES = "{apiVersion: v1, kind: Service, metadata: {name: kubernetes}, spec: {ports: [{port: 443}]}}"
_DATE = r"\w{3} \w{3} +\d+ [\d:]+ \w+ \d{4}"
# Docker writes a line for each name.
_HOSTS = r"127\.0\.0\.1\s+foo\.local\n127\.0\.0\.1\s+bar\.local\n10\.1\.2\.3\s+foo\.remote\n10\.1\.2\.3\s+bar\.remote\n"

CASES = (
    Case("debug__counter-pod.yaml", "counter", "Running", ((r"(?m)\A0: " + _DATE, "count"),)),
    # A reader that starts before the writer finds no file, ends, and is started again: the example is like that.
    Case(
        "admin__logging__two-files-counter-pod-streaming-sidecar.yaml",
        "counter",
        "Running",
        ((r"\A0: " + _DATE, "count-log-1"), (r"\A" + _DATE + " INFO 0", "count-log-2")),
        restarts=None,
    ),
    Case(
        "pods__commands.yaml",
        "command-demo",
        "Succeeded",
        ((r"\Acommand-demo\ntcp://10\.96\.\d+\.\d+:443\n\Z", ""),),
        first=_KUBERNETES,
    ),
    Case(
        "pods__inject__dapi-envars-pod.yaml",
        "dapi-envars-fieldref",
        "Running",
        ((r"\A\nnode\d\ndapi-envars-fieldref\npods-inject-dapi-envars-pod\n10\.244\.\d+\.\d+\ndefault\n", ""),),
    ),
    Case(
        "pods__pod-configmap-volume.yaml",
        "dapi-test-pod",
        "Succeeded",
        ((r"\ASPECIAL_LEVEL\nSPECIAL_TYPE\n\Z", ""),),
        first=_SPECIAL,
    ),
    # Its ConfigMap is an example, too: configmap__configmaps.yaml, which says in which namespace it wants to be.
    Case(
        "pods__pod-single-configmap-env-variable.yaml",
        "dapi-test-pod",
        "Succeeded",
        ((r"(?m)^SPECIAL_LEVEL_KEY=very$", ""),),
        namespace="default",
    ),
    Case("service__networking__hostaliases-pod.yaml", "hostaliases-pod", "Succeeded", ((_HOSTS, ""),)),
    Case("pods__storage__projected-secret-downwardapi-configmap.yaml", "volume-test", "Running", first=_PROJECTED),
    Case("pods__probe__exec-liveness.yaml", "liveness-exec", "Running", restarts=None),
    Case("pods__probe__pod-with-http-healthcheck.yaml", "pod-with-http-healthcheck", "Running", restarts=None),
    Case("pods__probe__grpc-liveness.yaml", "etcd-with-grpc", "Running"),
    Case("pods__simple-pod.yaml", "nginx", "Running", inside=("wget -qO- localhost | grep title", "Welcome to nginx!")),
    Case("pods__storage__redis.yaml", "redis", "Running", ((r"Ready to accept connections", ""),)),
    Case(
        "pods__two-container-pod.yaml",
        "two-containers",
        "Running",
        inside=("wget -qO- localhost", "Hello from the debian container"),
        ended=("debian-container",),
    ),
    Case(
        "pods__lifecycle-events.yaml",
        "lifecycle-demo",
        "Running",
        inside=("cat /usr/share/message", "Hello from the postStart handler"),
    ),
    Case(
        "pods__inject__envars.yaml",
        "envar-demo",
        "Running",
        inside=("echo $DEMO_GREETING $DEMO_FAREWELL", "Hello from the environment Such a sweet sorrow"),
    ),
    Case(
        "pods__inject__secret-envars-pod.yaml",
        "secret-envars-test-pod",
        "Running",
        first="pods__inject__secret.yaml",
        inside=("echo $SECRET_USERNAME $SECRET_PASSWORD", "my-app 39528$vdg7Jb"),
    ),
    Case(
        "pods__inject__secret-pod.yaml",
        "secret-test-pod",
        "Running",
        first="pods__inject__secret.yaml",
        inside=("cd /etc/secret-volume && cat username password", "my-app39528$vdg7Jb"),
    ),
    Case("pods__qos__qos-pod.yaml", "qos-demo", "Running", namespace="qos-example"),
    Case("pods__resource__memory-request-limit.yaml", "memory-demo", "Running", namespace="mem-example"),
    Case("pods__security__security-context.yaml", "security-context-demo", "Running", inside=("id -u", "1000")),
    # Without a node in a zone there is no place for it; without the label, none for the other.
    Case("pods__topology-spread-constraints__one-constraint.yaml", "mypod", "Pending", namespace="zones"),
    Case("pods__pod-nginx.yaml", "nginx", "Pending"),
    # 100 CPUs are more than there are, as its page wants it; its image is never asked for.
    Case("pods__resource__cpu-request-limit-2.yaml", "cpu-demo-2", "Pending", namespace="cpu-example"),
)
WORKLOADS = (
    Workload("application__deployment.yaml", "deployment", "nginx-deployment", 2),
    Workload(
        "controllers__nginx-deployment.yaml",
        "deployment",
        "nginx-deployment",
        3,
        also=("service__nginx-service.yaml", "policy__zookeeper-pod-disruption-budget-maxunavailable.yaml"),
    ),
    Workload("controllers__frontend.yaml", "replicaset", "frontend", 3),
    Workload("controllers__replication.yaml", "replicationcontroller", "nginx", 3),
    Workload(
        "service__networking__run-my-nginx.yaml",
        "deployment",
        "my-nginx",
        2,
        also=("service__networking__nginx-svc.yaml",),
    ),
    # The ConfigMap is made by a command on its page.
    Workload(
        "deployments__deployment-with-configmap-as-volume.yaml",
        "deployment",
        "configmap-volume",
        3,
        first=_CONFIG % ("sport", "{sport: football}"),
    ),
    # The autoscaling walk-through's target, in one file with its service; the page it serves is asked for.
    Workload("application__php-apache.yaml", "deployment", "php-apache", 1),
)
