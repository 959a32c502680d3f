"""Three real Docker hosts: pods, services, scaling, healing. Faults of whole nodes are in test_faults."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.manifests import PAIR, WEB
from tests.e2e.support import (
    another_agent,
    answers,
    ask,
    containers_of,
    endpoint_ips,
    pods,
    ready_pods,
    served,
    stream,
)
from tests.harness import Cluster, CommandFailed, Host, eventually, run
from tests.harness.parts import BIN
from tests.harness.process import Process

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(hosts=3) as made:
        await made.apply(WEB % {"replicas": 6})
        await ready_pods(made, 6)
        for node in made.nodes:
            await served(node.host)
        yield made


async def test_every_node_answers_from_pods_on_several_nodes_evenly_in_turn(cluster: Cluster) -> None:
    where = {p["metadata"]["name"]: p["spec"]["nodeName"] for p in await ready_pods(cluster, 6)}
    for node in cluster.nodes:

        async def even(host: Host = node.host) -> bool:
            return [await answers(host, 12) for _ in range(3)] == [dict.fromkeys(where, 2)] * 3

        # Just after the last pod became ready a node may not have heard of it yet.
        await eventually(even, within=120, what=f"{node.name} knows all pods and asks them in turn")
    assert len(set(where.values())) == 3


async def test_the_cluster_address_answers_from_hosts_and_pods_and_refuses_what_nobody_serves(cluster: Cluster) -> None:
    (service,) = await cluster.get("service", "web")
    address = service["spec"]["clusterIP"]
    names = {p["metadata"]["name"] for p in await ready_pods(cluster, 6)}
    for node in cluster.nodes:
        assert (await node.host.run(["curl", "-s", "-m", "15", f"http://{address}/"])).strip() in names
        (container, *_) = (await containers_of(node.host)).values()
        said = await node.host.docker("exec", container, "timeout", "15", "wget", "-q", "-O", "-", f"http://{address}/")
        assert said.strip() in names
        with pytest.raises(CommandFailed, match="exit code 7"):  # refused, at once
            await node.host.run(["curl", "-sS", "-m", "15", f"http://{address}:81/"])
        with pytest.raises(CommandFailed, match="exit code 7"):  # a cluster address that no one holds
            await node.host.run(["curl", "-sS", "-m", "15", "http://10.244.200.200/"])


async def test_containers_of_a_pod_share_localhost_volumes_and_hostname(cluster: Cluster) -> None:
    first, other = cluster.nodes[0], cluster.nodes[1]
    await cluster.apply(PAIR % {"node": first.name})
    try:
        (pod,) = await ready_pods(cluster, 1, selector="app=pair")
        ids = {name.split("_")[5]: id for name, id in (await containers_of(first.host, "pair")).items()}

        async def within(container: str, *command: str) -> str:
            return (await first.host.docker("exec", ids[container], *command)).strip()

        assert await within("client", "hostname") == await within("server", "hostname") == "pair"
        get = ("wget", "-q", "-O", "-", "http://localhost:8080/")
        # Without a probe it is ready before it listens.
        assert await eventually(lambda: within("client", *get), within=60, what="the server listens") == "pair"
        assert await within("client", "cat", "/also/index.html") == "pair"
        assert await within("client", "cat", "/fast/m") == "memory"
        assert "tmpfs" in await within("client", "df", "/fast")
        with pytest.raises(CommandFailed, match="Read-only"):
            await within("client", "touch", "/also/x")
        assert await within("client", "readlink", "/proc/self/ns/ipc") == await within(
            "server", "readlink", "/proc/self/ns/ipc"
        )
        ip = pod["status"]["podIP"]
        (elsewhere, *_) = (await containers_of(other.host)).values()
        said = await other.host.docker(
            "exec", elsewhere, "timeout", "15", "wget", "-q", "-O", "-", f"http://{ip}:8080/"
        )
        assert said.strip() == "pair"
        assert (await cluster.sampan("logs", "pair", "-c", "client")).strip() == ""
    finally:
        await cluster.sampan("delete", "pod", "pair", "--now")


async def test_pods_see_each_other_without_address_translation(cluster: Cluster) -> None:
    found = {p["spec"]["nodeName"]: p for p in await ready_pods(cluster, 6)}
    server, client = found["node1"], found["node2"]
    one, two = cluster.node("node1").host, cluster.node("node2").host
    (listener, *_) = (await containers_of(one, server["metadata"]["name"])).values()
    (dialler, *_) = (await containers_of(two, client["metadata"]["name"])).values()
    dial = ["exec", dialler, "timeout", "10", "wget", "-q", "-O", "-", f"http://{server['status']['podIP']}:9999/"]

    async def connected() -> bool:
        return bool(await two.docker(*dial) == server["metadata"]["name"])

    async with asyncio.TaskGroup() as group:
        # -vv makes httpd say who asks.
        script = "timeout 100 httpd -f -vv -p 9999 -h /www & echo $! > /tmp/httpd; wait"
        within = ["docker", "-H", one.docker_url, "exec", listener, "sh", "-c"]
        command = f"{shlex.join([*within, script])} 2>&1; true"
        heard = group.create_task(one.run(["sh", "-c", command], timeout=120))
        await eventually(connected, within=60, what="a connection by pod IP")
        await one.run([*within, "kill $(cat /tmp/httpd)"])
    assert client["status"]["podIP"] in heard.result()


async def test_scale_up_and_down_loses_no_request(cluster: Cluster) -> None:
    async with stream(*(node.host for node in cluster.nodes)) as requests:
        said = await cluster.sampan("scale", "rc/web", "--replicas=10")
        assert "replicationcontroller/web scaled" in said
        await ready_pods(cluster, 10)
        await eventually(lambda: _endpoints(cluster, 10), within=60, what="all ten are endpoints")
        await cluster.sampan("scale", "rc/web", "--replicas=6")
        await ready_pods(cluster, 6)
        await eventually(lambda: _gone(cluster, 6), within=60, what="surplus pods gone")
    assert requests.count > 50
    assert len(requests.failed) <= 0.02 * requests.count, requests.failed


async def _gone(cluster: Cluster, count: int) -> bool:
    return len(await pods(cluster)) == count


async def _endpoints(cluster: Cluster, count: int) -> bool:
    return len(await endpoint_ips(cluster)) == count


async def test_a_killed_container_is_restarted_in_place(cluster: Cluster) -> None:
    victim = (await ready_pods(cluster, 6))[0]
    name = victim["metadata"]["name"]
    before = victim["status"]["containerStatuses"][0]["restartCount"]
    host = cluster.node(victim["spec"]["nodeName"]).host
    (container,) = (await containers_of(host, name)).values()
    await host.docker("kill", "-s", "KILL", container)

    async def restarted() -> bool:
        (pod,) = await cluster.get("pod", name)
        (status,) = pod["status"]["containerStatuses"]
        return status["restartCount"] == before + 1 and status["ready"] and "running" in status["state"]

    await eventually(restarted, within=60, what="the container runs again")
    (pod,) = await cluster.get("pod", name)
    assert pod["metadata"]["uid"] == victim["metadata"]["uid"]
    assert pod["status"]["podIP"] == victim["status"]["podIP"]
    terminated = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert terminated["exitCode"] == 137 and terminated["reason"] == "Error"


async def test_a_deleted_pod_is_replaced(cluster: Cluster) -> None:
    victim = (await ready_pods(cluster, 6))[0]["metadata"]
    assert await cluster.sampan("delete", "pod", victim["name"]) == f'pod "{victim["name"]}" deleted\n'
    now = await ready_pods(cluster, 6)
    assert victim["uid"] not in {p["metadata"]["uid"] for p in now}


async def test_a_pod_that_fits_nowhere_says_why_for_each_node(cluster: Cluster) -> None:
    manifest = """
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers: [{name: c, image: sampan-test/busybox:1, resources: {requests: {memory: 9Ti}}}]
"""
    await cluster.apply(manifest)
    try:

        async def explained() -> str:
            said = await cluster.sampan("describe", "pod", "huge")
            return said if all(f"{node.name}: needs 9Ti memory" in said for node in cluster.nodes) else ""

        said = await eventually(explained, within=60, what="a reason for each node")
        assert "Pending" in said and "0/3 nodes are available" in said
    finally:
        await cluster.sampan("delete", "pod", "huge")


async def test_cordon_keeps_new_pods_away(cluster: Cluster) -> None:
    await cluster.sampan("cordon", "node3")
    try:
        assert "SchedulingDisabled" in await cluster.sampan("get", "node", "node3")
        before = {p["metadata"]["uid"] for p in await ready_pods(cluster, 6)}
        await cluster.sampan("scale", "rc/web", "--replicas=9")
        fresh = [p for p in await ready_pods(cluster, 9) if p["metadata"]["uid"] not in before]
        assert "node3" not in {p["spec"]["nodeName"] for p in fresh}
    finally:
        await cluster.sampan("uncordon", "node3")
        await cluster.sampan("scale", "rc/web", "--replicas=6")
        await ready_pods(cluster, 6)


async def test_images_that_do_not_exist_are_explained(cluster: Cluster) -> None:
    manifest = """
apiVersion: v1
kind: Pod
metadata: {name: noimage}
spec:
  containers: [{name: c, image: "127.0.0.1:1/no/such:image"}]
"""
    await cluster.apply(manifest)
    try:

        async def explained() -> bool:
            listed = await cluster.sampan("get", "pod", "noimage")
            return "ErrImagePull" in listed or "ImagePullBackOff" in listed

        await eventually(explained, within=90, what="ErrImagePull")
        assert "127.0.0.1:1/no/such:image" in await cluster.sampan("describe", "pod", "noimage")
    finally:
        await cluster.sampan("delete", "pod", "noimage", "--now")


async def test_config_and_secrets_reach_the_pod(cluster: Cluster) -> None:
    manifest = """
apiVersion: v1
kind: Pod
metadata: {name: conf}
spec:
  restartPolicy: Never
  volumes: [{name: s, secret: {secretName: key, defaultMode: 0400}}]
  containers:
  - name: c
    image: sampan-test/busybox:1
    command: [sh, -c, "echo $GREETING $(cat /s/token) $NODE; touch /s/x || echo refused"]
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    volumeMounts: [{name: s, mountPath: /s, readOnly: true}]
"""
    # A missing volume keeps the whole pod waiting; this is about the environment of one container.
    await cluster.apply('{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {token: "s3"}}')
    await cluster.apply(manifest)

    async def waiting() -> bool:
        return "CreateContainerConfigError" in await cluster.sampan("get", "pod", "conf")

    await eventually(waiting, within=60, what="CreateContainerConfigError")
    await cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {greeting: ahoy}}")
    await cluster.sampan("wait", "pod/conf", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=80s")
    (pod,) = await cluster.get("pod", "conf")
    first, second, *_ = [line for line in (await cluster.sampan("logs", "conf")).splitlines() if "touch" not in line]
    assert first == f"ahoy s3 {pod['spec']['nodeName']}" and second == "refused"
    await cluster.sampan("delete", "pod/conf", "configmap/words", "secret/key")


async def test_a_port_in_use_is_an_event_and_harms_nothing_else(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    enter = ["nsenter", f"--net=/var/run/netns/{node.host.netns}", "--", "busybox"]
    held = await asyncio.create_subprocess_exec(*enter, "httpd", "-f", "-p", f"{node.host.address}:8766")

    async def taken() -> bool:
        # Its 404 is an answer, too.
        return bool(await run(["curl", "-sS", "-m", "15", f"http://{node.host.address}:8766/"]))

    try:
        # Before the proxy hears of the service.
        await eventually(taken, within=60, what="somebody else has the port")
        await cluster.apply(
            "{apiVersion: v1, kind: Service, metadata: {name: clash}, spec: {type: NodePort, selector: {app: web}, "
            "ports: [{port: 80, targetPort: http, nodePort: 8766}]}}"
        )

        async def told() -> bool:
            events = json.loads(await cluster.sampan("events", "--for", "service/clash", "-o", "json"))["items"]
            return any(e["reason"] == "PortInUse" and "8766" in e["message"] for e in events)

        await eventually(told, within=60, what="an event on the service")
        assert await ask(node.host.address)
        await served(cluster.nodes[1].host, within=60, port=8766)
    finally:
        held.kill()
        await held.wait()
    await eventually(lambda: ask(node.host.address, 8766), within=60, what="the port is retried")
    await cluster.sampan("delete", "service", "clash")
    await eventually(lambda: _refused(node.host, 8766), within=60, what="the port is closed with its service")


async def _refused(host: Host, port: int) -> bool:
    try:
        await ask(host.address, port)
    except ConnectionRefusedError:
        return True
    return False


async def test_nobody_but_a_verified_machine_sees_anything(cluster: Cluster) -> None:
    """From a node's own address, without a token, with a wrong one, and with the admin's."""
    host, master = cluster.nodes[0].host, cluster.master
    command = [str(BIN / "sampan"), "--master", master.address, "get", "nodes"]
    with pytest.raises(CommandFailed, match="SAMPAN_TOKEN"):
        await host.run(command)
    with pytest.raises(CommandFailed, match="token"):
        await host.run([*command, "--token", "wrong"])
    assert "node1" in await host.run([*command, "--token", master.admin_token()])


async def test_the_host_keeps_containers_that_are_not_ours(cluster: Cluster) -> None:
    host = cluster.nodes[2].host
    foreign = await host.docker("run", "-d", "--name", "foreign", "sampan-test/busybox:1", "sleep", "600")
    try:
        before = await containers_of(host)
        await another_agent(cluster, cluster.nodes[2], cluster.nodes[2].kill_agent())
        await cluster.wait_ready("node3")
        assert await host.docker("inspect", "-f", "{{.Id}} {{.State.Running}}", "foreign") == f"{foreign} true"
        assert await containers_of(host) == before
    finally:
        await host.docker("rm", "-f", "foreign")


async def test_grpcurl_lists_describes_and_calls(cluster: Cluster) -> None:
    async def grpcurl(*words: str) -> str:
        return await run([str(BIN / "grpcurl"), "-plaintext", *words])

    address = cluster.master.address
    services = await grpcurl(address, "list")
    assert {"sampan.v1.ControlPlane", "sampan.v1.NodeService", "grpc.health.v1.Health"} <= set(services.split())
    assert "rpc Apply" in await grpcurl(address, "describe", "sampan.v1.ControlPlane")
    pod = {
        "metadata": {"name": "curled"},
        "spec": {"containers": [{"name": "c", "image": "sampan-test/busybox:1", "command": ["sleep", "60"]}]},
    }
    request = json.dumps({"object": {"pod": pod}})
    made = json.loads(await grpcurl("-d", request, address, "sampan.v1.ControlPlane/Apply"))
    assert made["outcome"] == "CREATED"
    listed = json.loads(await grpcurl("-d", '{"kind": "pods"}', address, "sampan.v1.ControlPlane/List"))
    assert "curled" in {item["pod"]["metadata"]["name"] for item in listed["items"]}
    watching = ["-max-time", "8", "-d", '{"kind": "po", "fieldSelector": "metadata.name=curled"}']
    with pytest.raises(CommandFailed) as ended:  # a watch has no end of its own
        await grpcurl(*watching, address, "sampan.v1.ControlPlane/Watch")
    assert '"type": "ADDED"' in ended.value.stdout
    await cluster.sampan("delete", "pod", "curled", "--now")


async def test_the_line_that_token_create_prints_joins_a_host(cluster: Cluster) -> None:
    line = await cluster.sampan("token", "create", "--ttl=1h", "--description=a new machine")
    program, *flags = shlex.split(line)
    host = await cluster.hosts.add()
    # What is peculiar to a test host: its engine's socket, its own folder, its name.
    own = ["--docker", host.docker_url, "--data", str(host.state / "joined"), "--name", "joined"]
    node = Process("joined", [str(BIN / program), *flags, *own], folder=host.state, netns=host.netns)
    node.start()
    try:
        await cluster.wait_ready("joined", within=90)
        assert "a new machine" in await cluster.sampan("token", "list")
        await eventually(lambda: ask(host.address), within=60, what="the new host answers for the service")
    finally:
        await node.kill()
        await cluster.sampan("delete", "node", "joined")
