"""`drain` and `taint` on a real master with two agents on simulated engines: what they say, and their exit codes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from cli.client import Client
from cli.main import run
from common import kinds
from tests.cli.masters import Master, running, simulated_node

OBJECTS = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 4
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1"}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: logs}
spec:
  selector: {matchLabels: {app: logs}}
  template:
    metadata: {labels: {app: logs}}
    spec: {containers: [{name: c, image: "logs:1"}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 4, selector: {matchLabels: {app: web}}}
"""

Sampan = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("drain")
    manifest = folder / "objects.yaml"
    manifest.write_text(OBJECTS)
    with running(folder) as master:
        with Client(master.address) as client:
            token = client.create_token(3600, "").token
        at = ["--master", master.address]
        with simulated_node(master, token, folder), simulated_node(master, token, folder, "node-2"):
            for name in ("node-1", "node-2"):
                assert run(["wait", f"node/{name}", "--for=create", "--timeout=60s", *at]) == 0
            assert run(["wait", "nodes", "--all", "--for=condition=Ready", "--timeout=60s", *at]) == 0
            assert run(["apply", "-f", str(manifest), *at]) == 0
            assert run(["wait", "rc/web", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=60s", *at]) == 0
            ready = "--for=jsonpath={.status.numberAvailable}=2"
            assert run(["wait", "ds/logs", ready, "--timeout=60s", *at]) == 0
            budget = "--for=jsonpath={.status.currentHealthy}=4"
            assert run(["wait", "pdb/web", budget, "--timeout=60s", *at]) == 0
            yield master


@pytest.fixture
def sampan(cluster: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sampan:
    monkeypatch.setenv("SAMPAN_MASTER", cluster.address)
    capsys.readouterr()

    def call(*args: str) -> tuple[int, str, str]:
        code = run(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def places(master: Master) -> dict[str, int]:
    """Pods of the controller by node."""
    with Client(master.address) as client:
        pods = client.list(kinds.POD, "default", labels="app=web").items
    found: dict[str, int] = {}
    for pod in pods:
        found[pod.spec.nodeName] = found.get(pod.spec.nodeName, 0) + 1
    return found


def test_a_drain_says_what_keeps_it_from_beginning_and_a_dry_run_what_it_would_do(
    cluster: Master, sampan: Sampan
) -> None:
    code, out, err = sampan("drain", "node-1")
    assert code == 1 and out == "node/node-1 cordoned\n"
    assert err.startswith('error: unable to drain node "node-1": cannot delete DaemonSet-managed Pods (use --ignore-')
    assert sampan("uncordon", "node-1")[0] == 0
    code, out, err = sampan("drain", "node-1", "--ignore-daemonsets", "--dry-run=client")
    assert code == 0 and "evicting pod default/web-" in out and out.endswith("node/node-1 drained (dry run)\n")
    assert err.startswith("Warning: ignoring DaemonSet-managed Pods: default/logs-")
    assert places(cluster) == {"node-1": 2, "node-2": 2}
    assert sampan("drain", "node-9")[2] == 'error: nodes "node-9" not found\n'
    assert "say which nodes" in sampan("drain")[2]


def test_a_drain_waits_for_the_budget_and_ends_when_the_node_is_empty(cluster: Master, sampan: Sampan) -> None:
    code, out, err = sampan("drain", "node-1", "--ignore-daemonsets", "--timeout=2s", "--grace-period=1")
    assert code == 1 and "node/node-1 cordoned\n" in out
    assert "disruption budget web needs 4 healthy pods and has 4 currently" in err
    assert "drain did not complete within 2s: still there are default/web-" in err
    assert places(cluster) == {"node-1": 2, "node-2": 2}

    def allow() -> None:
        def change(pdb: object) -> None:
            pdb.spec.minAvailable.intVal = 3  # type: ignore[attr-defined]

        with Client(cluster.address) as client:
            client.edit(kinds.POD_DISRUPTION_BUDGET, "default", "web", change)

    later = threading.Timer(4.0, allow)
    later.start()
    try:
        code, out, err = sampan("drain", "node-1", "--ignore-daemonsets", "--timeout=60s", "--grace-period=1")
    finally:
        later.join()
    assert code == 0, err
    assert out.startswith("node/node-1 already cordoned\n") and out.endswith("node/node-1 drained\n")
    assert out.count("evicting pod default/web-") == 2 and out.count(" evicted\n") == 2
    assert "(will retry): cannot evict pod default/web-" in err
    assert "node-1" not in places(cluster)


def test_taints(cluster: Master, sampan: Sampan) -> None:
    assert sampan("taint", "node-2", "dedicated=db:NoSchedule") == (0, "node/node-2 tainted\n", "")
    assert "dedicated=db:NoSchedule" in sampan("describe", "node", "node-2")[1]
    code, _, err = sampan("taint", "nodes", "node-2", "dedicated=web:NoSchedule")
    assert code == 1 and "--overwrite changes it" in err
    assert sampan("taint", "node-2", "dedicated=web:NoSchedule", "--overwrite")[0] == 0
    assert sampan("taint", "node-2", "dedicated-") == (0, "node/node-2 untainted\n", "")
    assert sampan("taint", "node-2", "dedicated-")[2] == 'error: node node-2 has no taint "dedicated"\n'
    assert "effect must be one of" in sampan("taint", "node-2", "a=1:Often")[2]


def test_pages_and_tables(cluster: Master, sampan: Sampan) -> None:
    everything = sampan("get", "all")[1]
    assert "daemonset.apps/logs" in everything and "replicationcontroller/web" in everything
    assert "ALLOWED DISRUPTIONS" in sampan("get", "pdb")[1]
    assert "system-node-critical      2000001000   false" in sampan("get", "pc")[1]
    page = sampan("describe", "ds", "logs")[1]
    assert "Desired Number of Nodes Scheduled:" in page and "SuccessfulCreate" in page
    assert "Allowed disruptions:" in sampan("describe", "pdb", "web")[1]
    assert "GlobalDefault:" in sampan("describe", "pc", "system-node-critical")[1]
