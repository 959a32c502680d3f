"""Probes, hooks and sidecars on a whole cluster: what services see, and what survives the agent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import another_agent, endpoint_ips, ready_pods
from tests.harness import BUSYBOX, Cluster, eventually

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]

# The command of the Kubernetes documentation's example of a liveness probe, with its waits cut short.
MANIFEST = f"""
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: pages
    image: {BUSYBOX}
    restartPolicy: Always
    command: [sh, -c, "mkdir /pages/www; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    startupProbe: {{exec: {{command: [test, -d, /pages/www]}}, periodSeconds: 1, failureThreshold: 60}}
    volumeMounts: [{{name: pages, mountPath: /pages}}]
  containers:
  - name: web
    image: {BUSYBOX}
    command: [httpd, -f, -p, "8080", -h, /pages/www]
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe:
      httpGet: {{path: /index.html, port: http}}
      periodSeconds: 1
      failureThreshold: 1
      timeoutSeconds: 30
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, "echo hello > /pages/www/index.html"]}}}}
    volumeMounts: [{{name: pages, mountPath: /pages}}]
  volumes: [{{name: pages, emptyDir: {{}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: liveness, labels: {{app: liveness}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: liveness
    image: {BUSYBOX}
    args: [/bin/sh, -c, "touch /tmp/healthy; sleep 3; rm -f /tmp/healthy; echo gone > /dev/termination-log; sleep 600"]
    livenessProbe:
      exec: {{command: [cat, /tmp/healthy]}}
      initialDelaySeconds: 1
      periodSeconds: 1
      timeoutSeconds: 30
"""


async def test_services_follow_health() -> None:
    async with Cluster(hosts=1) as cluster:
        await cluster.apply(MANIFEST)
        node = cluster.nodes[0]
        (pod,) = await ready_pods(cluster, 1, within=60)
        assert [one["ready"] for one in pod["status"]["initContainerStatuses"]] == [True]
        address = pod["status"]["podIP"]
        await eventually(lambda: serves(cluster, {address}), within=60, what="the pod is an endpoint")

        container = await container_id(cluster, "web")
        await node.host.docker("exec", container, "rm", "/pages/www/index.html")
        await eventually(lambda: serves(cluster, set()), within=60, what="no endpoint without the page")
        await node.host.docker("exec", container, "sh", "-c", "echo back > /pages/www/index.html")
        await eventually(lambda: serves(cluster, {address}), within=60, what="the endpoint is back")

        # The documentation's example: it restarts again and again, each time for its probe.
        liveness = await eventually(lambda: restarted(cluster), within=60, what="the liveness probe restarts it")
        ended = liveness["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert ended["message"].strip() == "gone"
        await eventually(lambda: told(cluster), within=60, what="what its probe said, and what follows")

        # Whoever is ready stays ready when the agent is replaced.
        before = await containers_ready(cluster)
        assert before[0] == "True"
        await another_agent(cluster, node, node.kill_agent())
        assert await containers_ready(cluster) == before
        assert await container_id(cluster, "web") == container
        await eventually(lambda: serves(cluster, {address}), within=60, what="it is an endpoint again, or still")


async def serves(cluster: Cluster, ips: set[str]) -> bool:
    return await endpoint_ips(cluster) == ips


async def restarted(cluster: Cluster) -> dict[str, Any]:
    """The pod of the documentation's example once it has restarted; empty before."""
    (pod,) = await cluster.get("pods", "liveness")
    one = pod["status"]["containerStatuses"][0]
    return pod if one["restartCount"] >= 1 and "terminated" in one.get("lastState", {}) else {}


async def container_id(cluster: Cluster, name: str) -> str:
    (found,) = await cluster.nodes[0].host.containers(f"label=sampan.dev/container={name}")
    return str(found["ID"])


async def containers_ready(cluster: Cluster) -> tuple[str, str]:
    """The condition's status and the time of its last change. (A node that is not heard of changes Ready alone.)"""
    (pod,) = await cluster.get("pods", "web")
    (found,) = [one for one in pod["status"]["conditions"] if one["type"] == "ContainersReady"]
    return found["status"], found["lastTransitionTime"]


async def told(cluster: Cluster) -> bool:
    page = await cluster.sampan("describe", "pod", "liveness")
    failed = "Liveness probe failed: cat: can't open '/tmp/healthy'" in page
    return failed and "Container liveness failed liveness probe, will be restarted" in page
