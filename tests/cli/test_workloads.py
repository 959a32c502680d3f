"""The verbs that need a node: pods that run, on a real master and an agent with the simulated runtime."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client import Client
from cli.main import run
from tests.cli.calling import Sampan, caller
from tests.cli.masters import ROOT, Master, running, simulated_node

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1", resources: {requests: {cpu: 500m}}}, {name: d, image: "web:1"}]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("cluster")
    manifest = folder / "web.yaml"
    manifest.write_text(WEB)
    with running(folder) as master:
        with Client(master.address) as client:
            token = client.create_token(3600, "").token
        with simulated_node(master, token, folder):
            at = ["--master", master.address]
            for arguments in (
                ["wait", "node/node-1", "--for=create", "--timeout=60s"],
                ["wait", "nodes", "--all", "--for=condition=Ready", "--timeout=60s"],
                ["apply", "-f", str(manifest)],
                ["wait", "rc/web", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s"],
            ):
                assert run([*at, *arguments]) == 0
            yield master


@pytest.fixture
def sampan(cluster: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sampan:
    return caller(cluster.address, capsys, monkeypatch)


def test_pods_and_nodes_in_tables(sampan: Sampan) -> None:
    rows = [line.split() for line in sampan("get", "pods", "-o", "wide", "--no-headers")[1].splitlines()]
    assert [(row[1], row[2], row[3], row[-1]) for row in rows] == [("2/2", "Running", "0", "node-1")] * 2
    assert all(re.fullmatch(r"10\.244\.\d+\.\d+", row[-2]) for row in rows)
    heading, row = sampan("get", "nodes")[1].splitlines()
    assert heading.split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert row.split()[:3] == ["node-1", "Ready", "<none>"]


def test_pages_of_what_runs(sampan: Sampan) -> None:
    node = sampan("describe", "node", "node-1")[1]
    assert "cpu       1 (12%)" in node
    pods = sampan("describe", "pods", "-l", "app=web")[1]
    assert pods.count("State:          Running") == 4

    def events() -> list[str]:
        page = sampan("describe", "pods", "-l", "app=web")[1]
        return [line.split()[1] for line in page.split("Events:")[1].split("\n\n")[0].splitlines()[3:]]

    limit = time.monotonic() + 60
    # The node tells of it, and a moment later of this.
    while "Started" not in events():
        assert time.monotonic() < limit, events()
        time.sleep(0.02)
    assert events()[0] == "Scheduled", events()


def test_logs(sampan: Sampan) -> None:
    code, out, err = sampan("logs", "rc/web")
    assert (code, out.count("started\n")) == (0, 1)
    assert "Found 2 pods, using pod/web-" in err and 'Defaulted container "c" out of: c, d' in err
    name = sampan("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")[1]
    assert sampan("logs", name, "-c", "d", "--tail=1")[1] == f"d of {name} started\n"
    assert re.match(r"\d{4}-\d\d-\d\dT", sampan("logs", f"pod/{name}", "d", "--timestamps")[1])
    code, _, err = sampan("logs", name, "-c", "nope")
    assert code == 1 and "nope" in err
    code, _, err = sampan("logs", name, "-c", "d", "--previous")
    assert code == 1 and "no previous run" in err


def test_followed_logs_end_with_ctrl_c(cluster: Master) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "logs", "rc/web", "-c", "c", "-f", "--master", cluster.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("started\n")  # it follows now
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and "Traceback" not in err


def test_deleted_pods_go_and_are_replaced(sampan: Sampan) -> None:
    before = sampan("get", "pods", "-o", "name")[1].split()
    code, out, _ = sampan("delete", before[0], "--timeout=60s")
    assert (code, out) == (0, f'pod "{before[0].removeprefix("pod/")}" deleted\n')
    assert before[0] not in sampan("get", "pods", "-o", "name")[1].split()
    assert sampan("wait", "rc/web", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s")[0] == 0
    code, out, err = sampan("delete", before[1], "--force")
    assert code == 0 and "force deleted" in out and err.startswith("Warning: ")


def test_cordon_and_uncordon(sampan: Sampan) -> None:
    try:
        assert sampan("cordon", "node-1") == (0, "node/node-1 cordoned\n", "")
        assert sampan("cordon", "node/node-1")[1] == "node/node-1 already cordoned\n"
        assert "Ready,SchedulingDisabled" in sampan("get", "nodes")[1]
    finally:
        assert sampan("uncordon", "node-1", "nope")[:2] == (1, "node/node-1 uncordoned\n")
    assert "SchedulingDisabled" not in sampan("get", "nodes")[1]


def test_a_file_of_a_controller_deletes_its_pods(sampan: Sampan, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(WEB.replace("name: web", "name: other").replace("app: web", "app: other"))
    assert sampan("apply", "-f", str(file))[0] == 0
    assert sampan("wait", "rc/other", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s")[0] == 0
    assert sampan("delete", "-f", str(file))[0] == 0
    assert sampan("wait", "pods", "-l", "app=other", "--for=delete", "--timeout=60s")[0] == 0
