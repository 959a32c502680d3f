"""What only real containers can show: shared namespaces, volumes, limits, environment, addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import SampanError
from node_agent.pods.manager import Assignments
from node_agent.runtime.docker import DockerRuntime
from protos.core_pb2 import ConfigMap, Pod, Secret
from tests.contract.conftest import Engine, docker_engine, until
from tests.contract.test_pods import Node, first
from tests.harness.images import BUSYBOX
from tests.ports import free_port

pytestmark = pytest.mark.docker
_TRAP = "trap 'exit 0' TERM; "
_WAIT = "; while :; do sleep 0.05; done"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with docker_engine(tmp_path) as engine:
        yield Node(engine, tmp_path / "data")


def pod_of(node: Node, name: str, *scripts: str, policy: str = "Always") -> Pod:
    """One container per shell script, named c0, c1 ..."""
    pod = node.pod(name, policy=policy)
    for number, script in enumerate(scripts):
        pod.spec.containers.add(name=f"c{number}", image=BUSYBOX, command=["sh", "-c", script])
    return pod


async def output(node: Node, pod: Pod, container: str, words: str) -> str:
    """The container's output once it has `words` in it."""

    async def look() -> str | None:
        try:
            text = await node.output(pod, container)
        except SampanError:
            return None
        return text if words in text else None

    return await until(look)


async def test_containers_share_network_name_and_volumes(node: Node) -> None:
    serve = _TRAP + "echo page > /disk/index.html; echo fast > /fast/f; httpd -p 8080 -h /disk" + _WAIT
    ask = (
        _TRAP + "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; cat /fast/f; hostname; "
        "grep db.local /etc/hosts; df /fast | tail -1; echo over" + _WAIT
    )
    pod = pod_of(node, "shared", serve, ask)
    pod.spec.hostAliases.add(ip="10.1.2.3", hostnames=["db.local"])
    pod.spec.volumes.add(name="disk").volumeSource.emptyDir.SetInParent()
    memory = pod.spec.volumes.add(name="fast").volumeSource.emptyDir
    memory.medium, memory.sizeLimit.value = "Memory", "1Mi"
    for container in pod.spec.containers:
        container.volumeMounts.add(name="disk", mountPath="/disk")
        container.volumeMounts.add(name="fast", mountPath="/fast")
    async with node.running():
        node.assign(pod)
        text = await output(node, pod, "c1", "over")
        lines = text.splitlines()
        assert "page" in lines and "fast" in lines and "shared" in lines
        assert any(line.split() == ["10.1.2.3", "db.local"] for line in lines)
        assert any(line.startswith("tmpfs") and line.split()[1] == "1024" for line in lines)
        ip = node.reports[pod.metadata.uid].status.podIP
        other = pod_of(node, "other", f"wget -q -O - http://{ip}:8080/" + _WAIT)
        node.assign(pod, other)
        assert await output(node, other, "c0", "page") == "page\n"
        # Memory volumes outlive a container's restart.
        one = next(c for c in await node.containers(pod) if c.name == "c1")
        await node.engine.runtime.kill(one.id)
        await node.until(pod, lambda r: r.status.containerStatuses[1].restartCount == 1)
        assert "fast" in (await output(node, pod, "c1", "over")).splitlines()
        node.assign()
        await node.until(pod, lambda r: r.gone)
        assert await node.engine.runtime.volumes() == []


async def test_configuration_reaches_the_container(node: Node) -> None:
    script = (
        _TRAP + "cat /config/key; cat /secret/pw; stat -c %a /secret/..data/pw; echo $COLOR $POD $IP; id -u; id -g; "
        "pwd; touch /config/x || echo refused; echo over; "
        "until grep -q new /config/key; do sleep 0.1; done; echo seen" + _WAIT
    )
    pod = pod_of(node, "configured", script)
    container = pod.spec.containers[0]
    pod.spec.volumes.add(name="config").volumeSource.configMap.localObjectReference.name = "cm"
    secret = pod.spec.volumes.add(name="secret").volumeSource.secret
    secret.secretName, secret.defaultMode = "sec", 0o444
    container.volumeMounts.add(name="config", mountPath="/config")
    container.volumeMounts.add(name="secret", mountPath="/secret")
    container.env.add(name="POD").valueFrom.fieldRef.fieldPath = "metadata.name"
    container.env.add(name="IP").valueFrom.fieldRef.fieldPath = "status.podIP"
    color = container.env.add(name="COLOR").valueFrom.configMapKeyRef
    color.localObjectReference.name, color.key = "cm", "color"
    container.workingDir = "/tmp"
    container.securityContext.runAsUser, container.securityContext.runAsGroup = 1234, 4321

    def known(key: str) -> Assignments:
        return Assignments(
            {pod.metadata.uid: pod},
            {("default", "cm"): ConfigMap(data={"key": key, "color": "teal"})},
            {("default", "sec"): Secret(data={"pw": b"hush\n"})},
        )

    async with node.running():
        node.manager.assign(known("old\n"))
        lines = (await output(node, pod, "c0", "over")).splitlines()
        ip = (await node.phase(pod, "Running")).status.podIP
        for expected in ("old", "hush", "444", f"teal configured {ip}", "1234", "4321", "/tmp", "refused"):
            assert expected in lines
        node.manager.assign(known("new\n"))
        await output(node, pod, "c0", "seen")


async def test_memory_limit_kills(node: Node) -> None:
    pod = pod_of(node, "hungry", "", policy="Never")
    # No shell round it: the container's first process is the one that is killed.
    pod.spec.containers[0].command[:] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]
    pod.spec.containers[0].resources.limits["memory"].value = "16Mi"
    async with node.running():
        node.assign(pod)
        # The engine may tell why only after it has told that.
        report = await node.until(pod, lambda r: first(r).state.terminated.reason == "OOMKilled")
        assert (report.status.phase, first(report).state.terminated.exitCode) == ("Failed", 137)


async def test_a_container_that_waits_to_restart_refuses_at_once(node: Node) -> None:
    script = "while ! [ -e /disk/crash ]; do httpd -p 8080 -h /; sleep 0.05; done; exit 1"
    pod = pod_of(node, "crashing", script)
    pod.spec.volumes.add(name="disk").volumeSource.emptyDir.SetInParent()
    pod.spec.containers[0].volumeMounts.add(name="disk", mountPath="/disk")
    async with node.running():
        node.assign(pod)
        ip = (await node.phase(pod, "Running")).status.podIP
        (node.data / "pods" / pod.metadata.uid / "volumes" / "emptyDir" / "disk" / "crash").touch()
        await node.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        # From the node, and from another pod on the same link.
        ask = f"until nc -w 2 {ip} 8080 2>&1 | grep refused; do sleep 0.1; done; echo over"
        other = pod_of(node, "asking", _TRAP + ask + _WAIT)
        node.assign(pod, other)
        assert "refused" in await output(node, other, "c0", "over")

        async def refused() -> bool | None:
            try:
                async with asyncio.timeout(1.0):
                    _, writer = await asyncio.open_connection(ip, 8080)
            except ConnectionRefusedError:
                return True
            except (OSError, TimeoutError):
                return None
            writer.close()
            return None

        await until(refused)
        assert node.reports[pod.metadata.uid].status.podIP == ip


async def test_command_that_is_not_there(node: Node) -> None:
    pod = pod_of(node, "wrong", "", policy="Never")
    pod.spec.containers[0].command[:] = ["/no/such/program"]
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Failed")
        ended = first(report).state.terminated
        assert ended.reason == "StartError"
        assert "/no/such/program" in ended.message


async def test_more_cpu_than_the_machine_has_is_allowed(node: Node) -> None:
    pod = pod_of(node, "wide", _TRAP + "echo up" + _WAIT)
    pod.spec.containers[0].resources.limits["cpu"].value = "512"
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")


async def test_a_pod_in_the_nodes_own_network(node: Node) -> None:
    number = free_port()
    script = _TRAP + f"mkdir /www; hostname > /www/index.html; httpd -p 127.0.0.1:{number} -h /www" + _WAIT
    pod = pod_of(node, "joined", script)
    pod.spec.hostNetwork = True
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        assert report.status.podIP == report.status.hostIP

        async def ask() -> bytes | None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", number)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
            except OSError:
                return None
            return answer if answer.endswith(b"\n") else None

        answer = await until(ask)
        assert answer.splitlines()[-1] == b"node"


async def test_strangers_are_left_alone(node: Node) -> None:
    pod = pod_of(node, "other-node", _TRAP + "echo up" + _WAIT)
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
    stranger = DockerRuntime(node.engine.cluster, "node-2", str(node.data))
    try:
        assert await stranger.containers() == []
        other = Node(Engine(stranger, node.engine.cluster, node.engine.network, node.engine.prefix), node.data)
        async with other.running():
            other.assign()
            await other.manager.measure()
        assert len(await node.containers(pod)) == 1
    finally:
        await stranger.close()


async def test_names_are_set_up_as_the_pod_says(node: Node) -> None:
    show = (
        _TRAP + "cat /etc/resolv.conf; cat /etc/hosts; hostname; hostname -f; touch /etc/resolv.conf; echo over" + _WAIT
    )
    cluster, own = (pod_of(node, name, show) for name in ("cluster", "own"))
    cluster.spec.hostname, cluster.spec.subdomain = "db-0", "db"
    own.spec.dnsPolicy = "None"
    own.spec.dnsConfig.nameservers.append("192.0.2.1")
    own.spec.containers[0].securityContext.readOnlyRootFilesystem = True
    async with node.running():
        node.assign(cluster, own)
        lines = (await output(node, cluster, "c0", "over")).splitlines()
        await node.phase(cluster, "Running")
        assert "nameserver 10.96.0.10" in lines and "options ndots:5" in lines
        (search,) = (line for line in lines if line.startswith("search "))
        assert search.split()[1:4] == ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        ip = node.reports[cluster.metadata.uid].status.podIP
        assert any(line.split() == [ip, "db-0.db.default.svc.cluster.local", "db-0"] for line in lines)
        assert "db-0" in lines and "db-0.db.default.svc.cluster.local" in lines
        lines = (await output(node, own, "c0", "over")).splitlines()
        assert [line for line in lines if line.startswith(("search", "nameserver", "options"))] == [
            "nameserver 192.0.2.1"
        ]
