"""Kubernetes' own documentation examples, run: each comes to the state that its page describes.

How all of them parse, default and validate is tested in tests/common and tests/master; here are those that this release
has the kinds for and the machine has the images for.
"""

from __future__ import annotations

import asyncio
import platform
import re
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from node_agent.runtime import sandbox_image
from tests.common.manifests import SHARED, files, objects
from tests.e2e.documented import CASES, WORKLOADS, Case, Workload, space
from tests.e2e.standins import NAMES, named, why_not
from tests.e2e.support import containers_of
from tests.harness import BUSYBOX, Cluster, Host, eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(
        not files(SHARED), reason=f"the documentation's examples are not beside the checkout ({SHARED})"
    ),
]

BUSYBOX_AS = ("busybox:1.28", "registry.k8s.io/busybox:1.27.2", "registry.k8s.io/busybox:latest")
# The agent makes the same image for itself, but not before a pod needs it.
PAUSE_AS = "registry.k8s.io/pause:3.1"
_NAMES = [case.file.removesuffix(".yaml") for case in CASES]
LIVENESS = ("liveness-exec", "pod-with-http-healthcheck", "etcd-with-grpc")
JOB = "controllers__job.yaml"
_PI = "3.14159265358979323846264338327950288419716939937510"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Two hosts that know the images by the names that the examples use; all examples are applied."""
    async with Cluster(hosts=2, images=(BUSYBOX,)) as made, named(made.hosts, NAMES):
        for host in made.hosts:
            for name in BUSYBOX_AS:
                await host.docker("tag", BUSYBOX, name)
            await import_pause(host)
        try:
            await apply_all(made)
            yield made
        finally:
            # The engines' images are kept for the next harness, which knows none of these names.
            for host in made.hosts:
                await host.docker("rmi", "--no-prune", PAUSE_AS, *BUSYBOX_AS, check=False)


async def import_pause(host: Host) -> None:
    """The agent's own image that does nothing, under Kubernetes' name for its."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(sandbox_image.root_filesystem(platform.machine()))
        file.flush()
        await host.docker("import", "-c", f'ENTRYPOINT ["{sandbox_image.PROGRAM}"]', file.name, PAUSE_AS)


async def apply_all(cluster: Cluster) -> None:
    """Everything that the tutorials make first, then the examples, a few at a time; slow ones are the first."""
    spaces = {case.where for case in (*CASES, *WORKLOADS)} | {"services", space(JOB)}
    await cluster.apply("\n---\n".join(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {n}}}}}" for n in spaces))
    await cluster.sampan("apply", "-f", str(SHARED / "configmap__configmaps.yaml"))
    turns = asyncio.Semaphore(2)

    async def one(namespace: str, file: str, first: str = "") -> None:
        async with turns:
            if first:
                text = (SHARED / first).read_text() if first.endswith(".yaml") else first
                await cluster.sampan("apply", "-n", namespace, "-f", "-", input=text)
            await cluster.sampan("apply", "-n", namespace, "-f", "-", input=runnable(SHARED / file))

    async with asyncio.TaskGroup() as group:
        for case in sorted(CASES, key=lambda case: "liveness" not in case.file and "health" not in case.file):
            group.create_task(one(case.where, case.file, case.first))
        group.create_task(one(space(JOB), JOB))
        for workload in WORKLOADS:
            group.create_task(one(workload.where, workload.file, workload.first))
            for file in workload.also:
                group.create_task(one(workload.where, file))


def runnable(path: Path) -> str:
    """The manifest's own text; where an image has no tag, with a policy that asks no registry, as there is none."""
    text = path.read_text()
    items = [item for _, item in objects(path)]
    containers = [c for i in items for c in i["spec"].get("template", i)["spec"].get("containers", [])]
    if all(":" in container["image"].rpartition("/")[2] for container in containers):
        return text
    for container in containers:
        container["imagePullPolicy"] = "IfNotPresent"
    return str(yaml.safe_dump_all(items))


@pytest.mark.parametrize("case", CASES, ids=_NAMES)
async def test_an_example_comes_to_the_state_that_its_page_describes(cluster: Cluster, case: Case) -> None:
    async def there() -> dict[str, Any]:
        (pod,) = await cluster.get("pod", case.pod, "-n", case.where)
        assert pod["status"].get("phase") == case.phase, pod["status"]
        if case.phase == "Running":
            statuses = {status["name"]: status for status in pod["status"]["containerStatuses"]}
            for name in case.ended:
                assert statuses.pop(name)["state"]["terminated"]["exitCode"] == 0
            assert all(status["ready"] for status in statuses.values())
        return pod

    pod = await eventually(there, within=90, what=f"{case.pod} {case.phase}", every=0.3)
    if case.restarts is not None:
        restarts = [s["restartCount"] for s in pod["status"].get("containerStatuses", [])]
        assert set(restarts) <= {case.restarts}, (pod["status"], await cluster.sampan("events", "-n", case.where))
    if case.phase == "Succeeded":
        ended = [s["state"]["terminated"] for s in pod["status"]["containerStatuses"]]
        assert all(state["exitCode"] == 0 and state["reason"] == "Completed" for state in ended)
    for pattern, container in case.logs:
        words = ["logs", case.pod, "-n", case.where, *(["-c", container] if container else [])]

        async def said(words: list[str] = words, pattern: str = pattern) -> bool:
            text = await cluster.sampan(*words)
            assert re.search(pattern, text), text[:600]
            return True

        await eventually(said, within=60, what=f"the log of {case.pod} {container}", every=0.3)
    command, printed = case.inside
    if command:

        async def prints() -> bool:
            text = await inside(cluster, pod, command)
            assert printed in text, text[:600]
            return True

        # A container without a probe is ready before its server listens.
        await eventually(prints, within=60, what=f"{case.pod} prints {printed!r}", every=0.3)


async def inside(cluster: Cluster, pod: dict[str, Any], command: str) -> str:
    """What a shell command prints in the pod's first container."""
    (name, *_) = [container["name"] for container in pod["spec"]["containers"]]
    host = cluster.node(pod["spec"]["nodeName"]).host
    label = f"label=sampan.dev/pod-uid={pod['metadata']['uid']}"
    (found,) = await host.containers(label, f"label=sampan.dev/container={name}")
    return await host.docker("exec", found["ID"], "sh", "-c", command)


@pytest.mark.parametrize("workload", WORKLOADS, ids=[w.file.removesuffix(".yaml") for w in WORKLOADS])
async def test_a_workload_comes_to_its_number(cluster: Cluster, workload: Workload) -> None:
    async def there() -> dict[str, Any]:
        (found,) = await cluster.get(workload.kind, workload.name, "-n", workload.where)
        assert found.get("status", {}).get("readyReplicas") == workload.ready, found.get("status")
        return found

    found = await eventually(there, within=90, what=f"{workload.ready} pods of {workload.name}", every=0.3)
    assert found["status"]["replicas"] == workload.ready
    if workload.kind == "deployment":
        said = await cluster.sampan("rollout", "status", f"deployment/{workload.name}", "-n", workload.where)
        assert f'deployment "{workload.name}" successfully rolled out' in said


async def test_the_pages_of_the_workloads_hold(cluster: Cluster) -> None:
    """What they ask to be looked at: services reach the pods, a ConfigMap's value is logged, a budget counts."""
    hello = "Welcome to nginx!"
    pages = (
        (WORKLOADS[1], "nginx-service", hello),
        (WORKLOADS[4], "my-nginx", hello),
        (WORKLOADS[6], "php-apache", "OK!"),
    )
    for file, service, page in pages:
        (found,) = await cluster.get("service", service, "-n", file.where)
        url = f"http://{found['spec']['clusterIP']}:{found['spec']['ports'][0]['port']}/"

        async def served(url: str = url, page: str = page) -> bool:
            return page in await cluster.nodes[0].host.run(["curl", "-sf", "-m", "25", url])

        await eventually(served, within=90, what=f"{service} answers {page!r}", every=0.3)
    (pod, *_) = await cluster.get("pods", "-n", WORKLOADS[5].where)

    async def logged() -> bool:
        said = await cluster.sampan("logs", pod["metadata"]["name"], "-n", WORKLOADS[5].where)
        return "My preferred sport is football" in said

    await eventually(logged, within=60, what="the sport is logged", every=0.3)

    async def counted() -> bool:
        (budget,) = await cluster.get("pdb", "zk-pdb", "-n", WORKLOADS[1].where)
        assert budget["spec"]["maxUnavailable"] == 1 and budget["status"]["expectedPods"] == 0
        return True

    await eventually(counted, within=60, what="the budget counts", ignore=(AssertionError, KeyError))


async def test_a_job_computes_pi(cluster: Cluster) -> None:
    async def complete() -> bool:
        (job,) = await cluster.get("job", "pi", "-n", space(JOB))
        conditions = {c["type"]: c["status"] for c in job["status"].get("conditions", [])}
        return conditions.get("Complete") == "True" and job["status"]["succeeded"] == 1

    await eventually(complete, within=120, what="the job is complete", every=0.3)
    (pod,) = await cluster.get("pods", "-n", space(JOB), "-l", "job-name=pi")
    said = await cluster.sampan("logs", pod["metadata"]["name"], "-n", space(JOB))
    assert said.startswith(_PI) and len(said.strip()) == 1001


async def test_an_init_container_brings_the_page(cluster: Cluster) -> None:
    """Its page fetches one from the internet; here from another example's service."""
    file = "pods__init-containers.yaml"
    (service,) = await cluster.get("service", "my-nginx", "-n", WORKLOADS[4].where)
    text = runnable(SHARED / file).replace("info.cern.ch", service["spec"]["clusterIP"])
    await cluster.sampan("apply", "-n", "services", "-f", "-", input=text)

    async def there() -> dict[str, Any]:
        (pod,) = await cluster.get("pod", "init-demo", "-n", "services")
        assert pod["status"]["phase"] == "Running", pod["status"]
        return pod

    pod = await eventually(there, within=90, what="it runs", every=0.3)
    (first,) = pod["status"]["initContainerStatuses"]
    assert first["state"]["terminated"]["reason"] == "Completed"

    async def page() -> bool:
        return "Welcome to nginx!" in await inside(cluster, pod, "wget -qO- localhost")

    await eventually(page, within=60, what="its page", every=0.3)


async def test_labels_zones_and_taints_say_where(cluster: Cluster) -> None:
    """What the pages on assigning pods, topology spread and tolerations do by command."""
    first, second = (node.name for node in cluster.nodes)
    (pod,) = await cluster.get("pod", "mypod", "-n", "zones")
    assert pod["status"]["phase"] == "Pending"
    await cluster.sampan("label", "node", first, "zone=zoneA", "disktype=ssd")
    await cluster.sampan("label", "node", second, "zone=zoneB")
    try:
        await eventually(lambda: runs_on(cluster, "mypod", "zones", ""), within=90, what="a zone takes it")
        one = (SHARED / "pods__topology-spread-constraints__one-constraint.yaml").read_text()
        # The page has pods of the same label in one zone already.
        other = one.replace('"mypod"', '"other"').replace("spec: {", f'spec: {{ nodeName: "{first}",', 1)
        await cluster.sampan("apply", "-n", "services", "-f", "-", input=other)
        await cluster.sampan("apply", "-n", "services", "-f", "-", input=one)
        await eventually(
            lambda: runs_on(cluster, "mypod", "services", second), within=90, what="it is in the other zone"
        )
        where = space("pods__pod-nginx.yaml")
        await eventually(lambda: runs_on(cluster, "nginx", where, first), within=90, what="it is on the ssd")
        await cluster.sampan("taint", first, second, "example-key=here:NoSchedule")
        await cluster.sampan("apply", "-n", "services", "-f", str(SHARED / "pods__pod-with-toleration.yaml"))
        plain = "pods__simple-pod.yaml"
        await cluster.sampan("apply", "-n", "zones", "-f", str(SHARED / plain))
        await eventually(lambda: told(cluster, "nginx", "zones", "example-key"), within=60, what="the taint is told")
        await eventually(lambda: runs_on(cluster, "nginx", "services", ""), within=90, what="the tolerating pod runs")
    finally:
        await cluster.sampan("taint", first, second, "example-key-", check=False)


async def runs_on(cluster: Cluster, name: str, namespace: str, node: str) -> bool:
    (pod,) = await cluster.get("pod", name, "-n", namespace)
    return pod["status"].get("phase") == "Running" and (not node or pod["spec"]["nodeName"] == node)


async def told(cluster: Cluster, name: str, namespace: str, text: str) -> bool:
    return text in await cluster.sampan("describe", "pod", name, "-n", namespace)


async def test_a_projected_volume_holds_what_its_page_says(cluster: Cluster) -> None:
    (where,) = [case.where for case in CASES if case.pod == "volume-test"]
    (pod,) = await cluster.get("pod", "volume-test", "-n", where)
    host = cluster.node(pod["spec"]["nodeName"]).host
    (container,) = (await containers_of(host, "volume-test")).values()
    script = "cd /projected-volume; for f in my-group/my-* labels cpu_limit; do echo $(cat $f); done"
    read = (await host.docker("exec", container, "sh", "-c", script)).split("\n")
    (node,) = await cluster.get("node", host.name)
    # Without a limit of its own a container may take what the node has; the pod has no labels.
    assert read == ["calm", "admin", "", node["status"]["allocatable"]["cpu"]]


async def test_a_hundred_cpus_are_refused_by_each_node_with_its_reason(cluster: Cluster) -> None:
    async def explained() -> bool:
        said = await cluster.sampan("describe", "pod", "cpu-demo-2", "-n", "cpu-example")
        return "FailedScheduling" in said and all(f"{n.name}: needs 100 cpu" in said for n in cluster.nodes)

    await eventually(explained, within=60, what="a reason for each node")


async def test_services_endpoints_secret_and_namespace_stand_as_written(cluster: Cluster) -> None:
    kinds = ("Service", "Endpoints", "Secret", "Namespace")
    chosen = [p for p in files(SHARED) if all(item["kind"] in kinds for _, item in objects(p))]
    assert len(chosen) >= 20
    words = [word for path in chosen for word in ("-f", str(path))]
    try:
        said = await cluster.sampan("apply", "-n", "services", *words)
        assert len(said.splitlines()) == sum(len(list(objects(path))) for path in chosen)
        services = await cluster.get("services", "-n", "services")
        assert {s["metadata"]["name"] for s in services} == {
            item["metadata"]["name"] for path in chosen for _, item in objects(path) if item["kind"] == "Service"
        }
        for service in services:
            spec = service["spec"]
            headless = service["metadata"]["name"] == "minio"
            assert headless == (spec["clusterIP"] == "None")
            assert headless or IPv4Address(spec["clusterIP"]) in IPv4Network("10.96.0.0/16")
            if spec["type"] in ("NodePort", "LoadBalancer"):
                assert all(30000 <= port["nodePort"] <= 32767 for port in spec["ports"])
        (endpoints,) = await cluster.get("endpoints", "glusterfs-cluster", "-n", "services")
        addresses = [a["ip"] for subset in endpoints["subsets"] for a in subset["addresses"]]
        assert sorted(addresses) == ["10.240.106.152", "10.240.79.157"]
        (secret,) = await cluster.get("secret", "test-secret", "-n", "services")
        assert secret["data"] == {"username": "bXktYXBw", "password": "Mzk1MjgkdmRnN0pi"}
        (namespace,) = await cluster.get("namespace", "development")
        assert namespace["metadata"]["labels"]["name"] == "development"
        assert namespace["status"]["phase"] == "Active"
    finally:
        await cluster.sampan("delete", "namespace", "development", check=False)


async def test_liveness_probes_do_what_their_pages_say(cluster: Cluster) -> None:
    """The last one: half a minute after its start one container loses its file; another never had the path."""
    exec_case, http_case, grpc_case = (next(c for c in CASES if c.pod == pod) for pod in LIVENESS)

    async def restarted() -> bool:
        (pod,) = await cluster.get("pod", exec_case.pod, "-n", exec_case.where)
        return bool(pod["status"]["containerStatuses"][0]["restartCount"] >= 1)

    what = "HTTP probe failed with statuscode: 404"
    await eventually(lambda: told(cluster, http_case.pod, http_case.where, what), within=90, what=what, every=0.5)
    await eventually(restarted, within=150, what="the container is restarted", every=0.5)
    for what in (
        "Liveness probe failed: cat: can't open '/tmp/healthy'",
        "Container liveness failed liveness probe, will be restarted",
    ):
        await eventually(partial(told, cluster, exec_case.pod, exec_case.where, what), within=60, what=what)
    (pod,) = await cluster.get("pod", grpc_case.pod, "-n", grpc_case.where)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    page = await cluster.sampan("describe", "pod", grpc_case.pod, "-n", grpc_case.where)
    unhealthy = [line for line in page.splitlines() if "Unhealthy" in line]
    # The manifest gives an answer one second, which a busy machine may not have; no other fault is found.
    assert all("did not complete within" in line for line in unhealthy), unhealthy
