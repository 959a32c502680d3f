"""`sampan explain pod/NAME` against a real master with a node that fits and one that does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from cli.client import Client
from common import kinds
from tests.cli.calling import Sampan, caller
from tests.cli.masters import Master, running, simulated_node

NODE = '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "away"}}'
POD = "{apiVersion: v1, kind: Pod, metadata: {name: NAME}, spec: {containers: [{name: a, image: a}]MORE}}"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("placement")
    with running(folder) as made, Client(made.address) as client:
        token = client.create_token(3600, "").token
        with simulated_node(made, token, folder):
            client.create(NODE, "")
            client.create(POD.replace("NAME", "here").replace("MORE", ""), "")
            client.create(POD.replace("NAME", "waits").replace("MORE", ", nodeSelector: {disk: ssd}"), "")
            limit = time.monotonic() + 60
            while not (
                client.get(kinds.POD, "default", "here").spec.nodeName
                and client.explain_pod("default", "waits").message.startswith("0/2 nodes")
            ):
                assert time.monotonic() < limit, "the pods are not looked at"
                time.sleep(0.05)
            yield made


@pytest.fixture
def sampan(master: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sampan:
    return caller(master.address, capsys, monkeypatch)


def test_a_pod_that_is_placed(sampan: Sampan) -> None:
    code, out, err = sampan("explain", "pod/here")
    assert (code, err) == (0, "")
    assert out.startswith("pod/here is on node-1; it is looked at here as if it were to be placed now.\n")
    lines = [line.split() for line in out.splitlines()]
    assert ["NODE", "TOTAL", "NODERESOURCESFIT"] in [line[:3] for line in lines]
    (row,) = [line for line in lines if line[:1] == ["node-1"]]
    assert float(row[1]) > 0
    assert ["away", "NodeReady", "not", "Ready"] in lines


def test_a_pod_that_waits(sampan: Sampan) -> None:
    code, out, _ = sampan("explain", "pod", "waits")
    assert code == 0 and out.startswith("pod/waits waits for a node.\n0/2 nodes are available: ")
    assert "does not match nodeSelector disk=ssd" in out and "Nodes that fit" not in out
    _, out, _ = sampan("explain", "pod/waits", "-o", "json")
    document = json.loads(out)
    assert [(node["node"], node["fits"], node["filter"]) for node in document["nodes"]] == [
        ("away", False, "NodeReady"),
        ("node-1", False, "NodeAffinity"),
    ]
    assert yaml.safe_load(sampan("explain", "pod/waits", "-o", "yaml")[1])["message"] == document["message"]


def test_wrong_words(sampan: Sampan) -> None:
    code, _, err = sampan("explain", "pod/nobody")
    assert code == 1 and 'pods "nobody" not found' in err
    code, _, err = sampan("explain", "node/node-1")
    assert code == 1 and "the scheduler places pods" in err
    code, _, err = sampan("explain", "pods.spec", "-o", "json")
    assert code == 1 and "-o is for pods" in err
    assert sampan("explain", "pods.spec.affinity")[0] == 0
