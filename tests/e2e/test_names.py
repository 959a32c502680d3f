"""Names from inside pods, on two real hosts, with and without the master."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from tests.e2e.manifests import PINNED, WEB
from tests.e2e.support import containers_of, ready_pods
from tests.harness import Cluster, Host, eventually

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

_POD = f"""{PINNED}\
  hostname: %(name)s
  subdomain: %(subdomain)s
  setHostnameAsFQDN: %(full)s
  containers:
  - name: c
    image: sampan-test/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
    ports: [{{name: http, containerPort: 8080}}]
"""

_SERVICES = """
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: portless}
spec:
  clusterIP: None
  selector: {app: db}
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec:
  type: ExternalName
  externalName: web.default.svc.cluster.local
"""

_DB = "".join(
    _POD % {"name": f"db-{i}", "app": "db", "node": f"node{i + 1}", "subdomain": "db", "full": "false"}
    for i in range(2)
)
_CLIENTS = "".join(
    _POD % {"name": f"client-{i}", "app": "client", "node": f"node{i + 1}", "subdomain": "none", "full": "true"}
    for i in range(2)
)
SVC = "svc.cluster.local"


class Client:
    """A pod that asks; `shell` runs a line in it and gives its standard output, whatever its exit code."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._host = cluster.node(f"node{number + 1}").host
        self._pod = f"client-{number}"

    async def shell(self, line: str) -> str:
        (container,) = (await containers_of(self._host, self._pod)).values()
        return str(await self._host.docker("exec", container, "timeout", "30", "sh", "-c", f"{line} 2>&1; true"))

    async def get(self, place: str) -> str:
        return (await self.shell(f"wget -q -O - http://{place}/")).strip()

    async def lookup(self, name: str, type: str = "a") -> str:
        return await self.shell(f"nslookup -type={type} {name}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(hosts=2) as made:
        await made.apply(WEB % {"replicas": 2} + _SERVICES + _DB + _CLIENTS)
        await ready_pods(made, 2)
        await ready_pods(made, 2, selector="app=db")
        await ready_pods(made, 2, selector="app=client")
        for number in range(2):
            await eventually(partial(_complete, made, number), within=60, what="the tables are complete")
        yield made


async def _complete(cluster: Cluster, number: int) -> bool:
    """Both sets have both addresses, and what the tests fetch is served: a pod without a probe is ready before that."""
    client, webs = Client(cluster, number), set(await _pod_ips(cluster, "app=web"))
    for name in ("db", "portless"):
        assert len(_addresses(await client.lookup(f"{name}.default.{SVC}"))) == 2, name
    for i in range(2):
        assert await client.get(f"db-{i}.db:8080") == f"db-{i}"
    # As many as there are pods behind it.
    assert all([await client.get(name) in webs for name in ("web", "web", "named", "named")])
    return True


def _addresses(said: str) -> set[str]:
    """Addresses in nslookup's answer, the server's own apart."""
    return set(re.findall(r"^Address(?: \d+)?: (10\.\S+)$", said.partition("\n\n")[2], re.MULTILINE))


async def _raw(host: Host, name: str) -> bytes:
    """The DNS's answer to a program of the host's own, over TCP."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!HHHHHH", 7, 256, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
    script = (
        "import socket; s = socket.create_connection(('10.96.0.10', 53), 15);"
        f"s.sendall(bytes.fromhex('{(struct.pack('!H', len(query)) + query).hex()}'));"
        "f = s.makefile('rb'); print(f.read(int.from_bytes(f.read(2), 'big')).hex())"
    )
    return bytes.fromhex((await host.run(["python3", "-c", script])).strip())


async def _pod_ips(cluster: Cluster, selector: str) -> dict[str, str]:
    return {p["metadata"]["name"]: p["status"]["podIP"] for p in await cluster.get("pods", "-l", selector)}


@pytest.mark.parametrize("number", [0, 1])
async def test_services_by_every_form_of_their_name(cluster: Cluster, number: int) -> None:
    client = Client(cluster, number)
    (service,) = await cluster.get("service", "web")
    names = set(await _pod_ips(cluster, "app=web"))
    for name in ("web", "web.default", "web.default.svc", f"web.default.{SVC}", "alias", f"WEB.default.{SVC}."):
        assert await client.get(name) in names, name
    assert _addresses(await client.lookup(f"web.default.{SVC}")) == {service["spec"]["clusterIP"]}
    reverse = ".".join(reversed(service["spec"]["clusterIP"].split(".")))
    assert f"name = web.default.{SVC}" in await client.lookup(f"{reverse}.in-addr.arpa", "ptr")
    assert f"0 100 80 named.default.{SVC}" in await client.lookup(f"_http._tcp.named.default.{SVC}", "srv")
    alias = await client.lookup(f"alias.default.{SVC}", "cname")
    assert f"web.default.{SVC}" in alias


@pytest.mark.parametrize("number", [0, 1])
async def test_headless_sets_and_pods(cluster: Cluster, number: int) -> None:
    client = Client(cluster, number)
    ips = await _pod_ips(cluster, "app=db")
    assert _addresses(await client.lookup(f"db.default.{SVC}")) == set(ips.values())
    for name, ip in ips.items():
        assert await client.get(f"{name}.db:8080") == name
        reverse = ".".join(reversed(ip.split(".")))
        # Also of a pod on the same host, which the engine's own resolver would have answered for.
        assert f"name = {name}.db.default.{SVC}" in await client.lookup(f"{reverse}.in-addr.arpa", "ptr")
        dashed = f"{ip.replace('.', '-')}.default.pod.cluster.local"
        assert _addresses(await client.lookup(dashed)) == {ip}
    said = await client.lookup(f"_http._tcp.db.default.{SVC}", "srv")
    assert all(f"0 50 8080 {name}.db.default.{SVC}" in said for name in ips)


async def test_a_pod_knows_its_own_full_name(cluster: Cluster) -> None:
    host = cluster.node("node1").host
    (container,) = (await containers_of(host, "db-0")).values()
    said = await host.docker("exec", container, "hostname", "-f")
    assert said.strip() == f"db-0.db.default.{SVC}"


@pytest.mark.parametrize("number", [0, 1])
async def test_a_headless_service_without_ports(cluster: Cluster, number: int) -> None:
    ips = await _pod_ips(cluster, "app=db")
    client = Client(cluster, number)
    assert _addresses(await client.lookup(f"portless.default.{SVC}")) == set(ips.values())


async def test_a_full_name_as_the_hostname(cluster: Cluster) -> None:
    full = f"client-0.none.default.{SVC}"
    for command in ("hostname", "hostname -f", "cat /etc/hostname", "cat /proc/sys/kernel/hostname"):
        assert (await Client(cluster, 0).shell(command)).strip() == full, command
    own = await Client(cluster, 0).shell("grep client-0 /etc/hosts")
    assert own.split()[1:] == [full, "client-0"]


@pytest.mark.parametrize("number", [0, 1])
async def test_environment_of_services(cluster: Cluster, number: int) -> None:
    """Those that were there before the pod."""
    name, node = f"late-{number}", f"node{number + 1}"
    await cluster.apply(_POD % {"name": name, "app": name, "node": node, "subdomain": "none", "full": "false"})
    host = cluster.node(node).host
    await ready_pods(cluster, 1, selector=f"app={name}")
    (container,) = (await containers_of(host, name)).values()
    (service,) = await cluster.get("service", "named")
    ip = service["spec"]["clusterIP"]
    said = set((await host.docker("exec", container, "env")).splitlines())
    assert {f"NAMED_SERVICE_HOST={ip}", "NAMED_SERVICE_PORT=80", "NAMED_SERVICE_PORT_HTTP=80"} <= said
    assert {f"NAMED_PORT=tcp://{ip}:80", f"NAMED_PORT_80_TCP_ADDR={ip}"} <= said
    assert not any(line.startswith(("DB_", "ALIAS_", "PORTLESS_")) for line in said)


@pytest.mark.parametrize("number", [0, 1])
async def test_an_unknown_name_is_unknown_at_once(cluster: Cluster, number: int) -> None:
    client = Client(cluster, number)
    took: list[float] = []
    # The quickest of some, on a machine that does other things too; a question that is not answered waits for 5 s.
    while not took or (min(took) > 4.5 and len(took) < 10):
        start = time.monotonic()
        assert "NXDOMAIN" in await client.lookup(f"nothing.default.{SVC}")
        took.append(time.monotonic() - start)
    assert min(took) < 4.5


async def test_tcp_and_the_hosts_own_processes(cluster: Cluster) -> None:
    """A node's own programs reach the DNS too; over TCP it speaks the same."""
    (service,) = await cluster.get("service", "web")
    expected = bytes(int(part) for part in service["spec"]["clusterIP"].split(".")).hex()
    for node in cluster.nodes:
        assert (await _raw(node.host, f"web.default.{SVC}"))[-4:].hex() == expected


async def test_names_outlive_master_and_agent(cluster: Cluster) -> None:
    client, names = Client(cluster, 0), await _pod_ips(cluster, "app=web")
    await cluster.master.kill()
    cluster.node("node1").pause("agent")
    try:
        assert _addresses(await client.lookup(f"db.default.{SVC}"))
        assert await client.get("web")
        # The next proxy has nobody to ask: it serves the table it finds on disk.
        cluster.node("node1").kill_proxy()

        async def answers() -> str:
            said = (await client.shell("timeout 3 wget -q -O - http://web/")).strip()
            assert said in names, said
            return said

        await eventually(answers, within=60, what="names after a proxy's death")
    finally:
        cluster.node("node1").resume("agent")
        await cluster.master.start()


async def test_a_large_set_comes_whole_by_tcp(cluster: Cluster) -> None:
    """Hand-written endpoints, more than fit into a datagram."""
    subsets = ", ".join(f"{{ip: 192.0.2.{i}}}" for i in range(1, 121))
    await cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: many}\n"
        "spec: {clusterIP: None, ports: [{name: x, port: 1}]}\n---\n"
        f"apiVersion: v1\nkind: Endpoints\nmetadata: {{name: many}}\nsubsets: [{{addresses: [{subsets}], "
        "ports: [{name: x, port: 1}]}]\n"
    )
    host = cluster.node("node1").host

    async def whole() -> bool:
        answer = await _raw(host, f"many.default.{SVC}")
        return int.from_bytes(answer[6:8], "big") == 120

    await eventually(whole, within=60, what="120 addresses")
