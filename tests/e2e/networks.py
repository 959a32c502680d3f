"""Pods and services over two links: their manifests, and what a pod sees, gets and is told of its network."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.manifests import PINNED
from tests.harness import Cluster, Host, eventually
from tests.harness.commands import CommandFailed

MTU = 1280
# The headers of VXLAN over IPv4.
POD_MTU = MTU - 50
NODES = ("node1", "node2", "node3")
NODE_PORT, HOST_PORT, OWN_PORT, BOUND_PORT, INNER_PORT = 8765, 8790, 8791, 8792, 8793
BULK = 8 * 1024 * 1024

# /who tells the address that the server sees, /bulk is more than any window.
_SERVER = (
    "mkdir -p /www/cgi-bin; hostname > /www/index.html; "
    "printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; "
    f"dd if=/dev/zero of=/www/bulk bs=1M count={BULK >> 20} 2>/dev/null; "
)
# They stay on a node that is away for as long as a test needs.
_REST = """\
  tolerations:
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}
  hostNetwork: %(host)s
  containers:
  - name: web
    image: sampan-test/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "%(server)sexec httpd -f -p %(port)d -h /www"]
    ports: [{name: http, containerPort: %(port)d%(host_port)s}%(more_ports)s]
    resources: {requests: {cpu: 10m, memory: 8Mi}}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.7.7
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 8765}]
---
apiVersion: v1
kind: Service
metadata: {name: own}
spec:
  clusterIP: 10.96.7.8
  selector: {app: web, at: node1}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  type: NodePort
  clusterIP: 10.96.7.10
  selector: {app: web, at: node3}
  ports: [{port: 80, targetPort: http, nodePort: 8767}]
"""
KEPT = """
apiVersion: v1
kind: Service
metadata:
  name: kept
  annotations: {sampan.dev/proxy-mode: %s}
spec:
  type: NodePort
  clusterIP: 10.96.7.9
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: http, nodePort: 8766}]
"""


def pod(
    name: str,
    node: str,
    *,
    app: str = "web",
    port: int = 8080,
    host: bool = False,
    host_port: int = 0,
    more_ports: str = "",
) -> str:
    server = _SERVER.replace("\\", "\\\\").replace('"', '\\"')
    return (PINNED + _REST) % {
        "name": name,
        "app": app,
        "node": node,
        "port": port,
        "host": str(host).lower(),
        "host_port": f", hostPort: {host_port}" if host_port else "",
        "server": server,
        "more_ports": more_ports,
    }


async def pod_ip(cluster: Cluster, name: str) -> str:
    (found,) = await cluster.get("pods", name)
    return str(found["status"]["podIP"])


async def container(host: Host, name: str) -> str:
    """The running container of a pod."""
    found = await host.containers(f"label=sampan.dev/pod-name={name}", "label=sampan.dev/kind=container")
    return next(one["ID"] for one in found if one["State"] == "running")


async def fetch(host: Host, pod: str, url: str) -> str:
    """What `pod` gets from a URL. Raises CommandFailed."""
    command = ("exec", await container(host, pod), "timeout", "10", "wget", "-q", "-O", "-", url)
    # The server listens on both families, and writes an IPv4 address as [::ffff:10.244.0.2].
    return (await host.docker(*command, timeout=60)).strip().removeprefix("[::ffff:").removesuffix("]")


async def sees(host: Host, pod: str, url: str, *, within: float = 90.0) -> str:
    async def look() -> str:
        return await fetch(host, pod, url)

    return await eventually(look, within=within, what=f"{pod} gets {url}", ignore=(CommandFailed,))


async def network_of(cluster: Cluster, name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await cluster.sampan("node", "network", name, "-o", "json"))
    return told


def ways(told: dict[str, Any]) -> dict[str, str]:
    return {peer["name"]: peer["way"] for peer in told["peers"]}
