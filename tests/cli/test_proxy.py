"""`sampan proxy status` against a real master with a node that has no proxy, and one that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from cli.client import Client
from cli.main import WRONG_USAGE
from common.errors import SampanError
from tests.cli.calling import Sampan, caller
from tests.cli.masters import Master, running, simulated_node

NODE = '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "away"}}'


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("proxy-status")
    with running(folder) as made, Client(made.address) as client:
        token = client.create_token(3600, "").token
        with simulated_node(made, token, folder):
            limit = time.monotonic() + 60
            while "runs no proxy" not in _said(client):
                assert time.monotonic() < limit, f"the node does not answer: {_said(client)}"
                time.sleep(0.05)
            client.create(NODE, "")
            yield made


def _said(client: Client) -> str:
    try:
        return str(client.node_query("node-1", "proxy"))
    except SampanError as error:
        return str(error)


@pytest.fixture
def sampan(master: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sampan:
    return caller(master.address, capsys, monkeypatch)


def test_all_nodes_and_those_that_do_not_answer(sampan: Sampan) -> None:
    code, out, err = sampan("proxy", "status")
    heading, away, here = out.splitlines()
    assert heading.split()[:3] == ["NODE", "STATUS", "REVISION"]
    assert away.split()[:2] == ["away", "Unknown"] and "is not connected: it can't be asked now" in away
    assert here.split()[:2] == ["node-1", "Unknown"] and "it runs no proxy" in here
    assert (code, err) == (1, "")
    code, out, _ = sampan("proxy", "status", "-o", "json")
    items = json.loads(out)["items"]
    assert code == 1 and [item["node"] for item in items] == ["away", "node-1"] and "runs no proxy" in items[1]["error"]
    _, out, _ = sampan("proxy", "status", "-o", "yaml")
    assert yaml.safe_load(out)["items"] == items


def test_one_node_is_an_error_in_a_line(sampan: Sampan) -> None:
    code, out, err = sampan("proxy", "status", "node/away")
    assert (code, out) == (1, "") and "not connected" in err and len(err.splitlines()) == 1
    code, _, err = sampan("proxy", "status", "nowhere")
    assert code == 1 and "nowhere" in err and "not found" in err
    code, _, err = sampan("proxy", "status", "--service", "web")
    assert code == WRONG_USAGE and "--service needs a NODE" in err
