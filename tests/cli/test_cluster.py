"""The verbs against a real master, through the command line as a user types it."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cli.client import Client
from cli.completing import names
from cli.main import run
from common import kinds, yamldoc
from common.errors import Conflict
from tests.cli.calling import Sampan
from tests.cli.masters import ROOT, Master, running

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {mode: one}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: c, image: 'web:1'}]}\n"


def test_apply_says_what_was_done(sampan: Sampan, file: Callable[[str], str]) -> None:
    path = file(WEB)
    dry = sampan("apply", "-f", path, "--dry-run=server")
    assert dry[1] == "replicationcontroller/web created (server dry run)\nservice/web created (server dry run)\n"
    assert sampan("get", "rc,svc")[2].startswith("No resources found")
    assert sampan("apply", "-f", path) == (0, "replicationcontroller/web created\nservice/web created\n", "")
    assert sampan("apply", "-f", path)[1] == "replicationcontroller/web unchanged\nservice/web unchanged\n"
    changed = sampan("apply", "-f", file(WEB.replace("replicas: 2", "replicas: 3")))
    assert changed[1] == "replicationcontroller/web configured\nservice/web unchanged\n"
    code, out, err = sampan("create", "-f", path)
    assert (code, out) == (1, "")
    assert err.count("error: ") == 2 and "already exists" in err


def test_a_manifest_from_standard_input(sampan: Sampan, master: Master) -> None:
    namespace = os.environ["SAMPAN_NAMESPACE"]
    done = subprocess.run(
        [sys.executable, "-m", "cli", "apply", "-f", "-", "--master", master.address, "-n", namespace],
        input=CONFIG,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "configmap/settings created\n"), done.stderr
    assert sampan("get", "cm", "settings", "-o", "jsonpath={.data.mode}")[1] == "one"


def test_a_bad_manifest_is_told_by_the_master_fault_by_fault(sampan: Sampan, file: Callable[[str], str]) -> None:
    bad = WEB.replace("replicas: 2", "replicas: -1").replace("containerPort: 80", "containerPort: 99999")
    code, out, err = sampan("apply", "-f", file(bad))
    assert code == 1
    assert out == "service/web created\n"  # one bad object does not keep the others away
    assert "manifest.yaml:2: " in err
    assert "\n  * spec.replicas: " in err
    assert "\n  * spec.template.spec.containers[0].ports[0].containerPort: must be" in err


def test_warnings_go_to_stderr(sampan: Sampan, file: Callable[[str], str]) -> None:
    pod = POD.replace("NAME", "a").replace("spec: {", "spec: {schedulerName: other, ")
    code, out, err = sampan("apply", "-f", file(pod))
    assert (code, out) == (0, "pod/a created\n")
    assert err.startswith("Warning: pod/a: spec.schedulerName")


def test_get_in_every_form(sampan: Sampan, file: Callable[[str], str]) -> None:
    sampan("apply", "-f", file(WEB + "---\n" + CONFIG.replace("name: settings", "name: settings, labels: {a: b}")))
    code, out, _ = sampan("get", "rc")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["NAME", "DESIRED"], ["web", "2"]]
    assert "web:1" in sampan("get", "rc/web", "-o", "wide")[1]
    assert sampan("get", "rc/web", "svc/web", "-o", "name")[1] == "replicationcontroller/web\nservice/web\n"
    one = sampan("get", "cm/settings", "-o", "yaml")[1]
    assert yamldoc.load(one)[0].value["data"] == {"mode": "one"}
    many = json.loads(sampan("get", "cm,svc", "-o", "json")[1])
    assert (many["kind"], [item["kind"] for item in many["items"]]) == ("List", ["ConfigMap", "Service"])
    assert sampan("get", "cm", "-l", "a=b", "-o", "name")[1] == "configmap/settings\n"
    assert sampan("get", "cm", "-l", "a=c", "-o", "name")[1] == ""
    assert sampan("get", "cm", "--field-selector", "metadata.name=settings", "--no-headers")[1].split()[:2] == [
        "settings",
        "1",
    ]
    assert "a=b" in sampan("get", "cm", "--show-labels")[1]
    assert os.environ["SAMPAN_NAMESPACE"] in sampan("get", "cm", "-A")[1]
    everything = sampan("get", "all")[1]
    assert "replicationcontroller/web" in everything and "service/web" in everything and "configmap" not in everything


def test_get_of_some_that_are_missing_shows_the_others(sampan: Sampan, file: Callable[[str], str]) -> None:
    sampan("apply", "-f", file(CONFIG))
    code, out, err = sampan("get", "cm", "settings", "nope", "--no-headers")
    assert code == 1
    assert out.startswith("settings ")
    assert err.startswith('error: configmaps "nope" not found')
    assert sampan("get", "cm", "nope", "--ignore-not-found") == (0, "", "")


def test_wrong_selectors_are_told(sampan: Sampan) -> None:
    code, _, err = sampan("get", "pods", "-l", "a in b")
    assert code == 1 and "label selector" in err
    code, _, err = sampan("get", "pods", "--field-selector", "spec.colour=red")
    assert code == 1 and "spec.nodeName" in err


def test_scale_is_compare_and_swap(sampan: Sampan, file: Callable[[str], str], master: Master) -> None:
    sampan("apply", "-f", file(WEB))
    assert sampan("scale", "rc/web", "--replicas=5") == (0, "replicationcontroller/web scaled\n", "")
    assert sampan("get", "rc/web", "-o", "jsonpath={.spec.replicas}")[1] == "5"
    code, _, err = sampan("scale", "rc", "web", "--replicas=1", "--current-replicas=2")
    assert code == 1 and "has 5 replicas, not 2" in err
    code, _, err = sampan("scale", "svc/web", "--replicas=1")
    assert code == 1 and "no replicas" in err
    # Someone writes between our read and our write, twice: the change still gets through, and theirs stays.
    namespace, lost = os.environ["SAMPAN_NAMESPACE"], iter(range(2))
    with Client(master.address) as ours, Client(master.address) as theirs:

        def change(wanted: Any) -> None:
            turn = next(lost, None)
            if turn is not None:
                theirs.edit(
                    kinds.REPLICATION_CONTROLLER,
                    namespace,
                    "web",
                    lambda rc: rc.metadata.labels.update({"turn": str(turn)}),
                )
            wanted.spec.replicas = 7

        stored, changed = ours.edit(kinds.REPLICATION_CONTROLLER, namespace, "web", change)
    assert changed and stored.spec.replicas == 7 and stored.metadata.labels["turn"] == "1"


def test_a_stale_update_is_a_conflict(sampan: Sampan, file: Callable[[str], str], master: Master) -> None:
    sampan("apply", "-f", file(CONFIG))
    with Client(master.address) as client:
        stale = client.get(kinds.CONFIG_MAP, os.environ["SAMPAN_NAMESPACE"], "settings")
        sampan("label", "cm/settings", "a=b")
        stale.data["mode"] = "two"
        with pytest.raises(Conflict):
            client.update(stale)


def test_label_and_annotate(sampan: Sampan, file: Callable[[str], str]) -> None:
    sampan("apply", "-f", file(CONFIG))
    assert sampan("label", "cm/settings", "a=b", "c=d")[1] == "configmap/settings labeled\n"
    assert sampan("label", "cm", "settings", "a=b")[1] == "configmap/settings not labeled\n"
    code, _, err = sampan("label", "cm", "settings", "a=x")
    assert code == 1 and "--overwrite" in err
    assert sampan("label", "cm", "settings", "a=x", "c-", "--overwrite")[0] == 0
    assert sampan("label", "cm", "--all", "e=f", "--list")[1].splitlines()[1:] == ["a=x", "e=f"]
    assert sampan("annotate", "cm", "-l", "a=x", "note=hello there")[1] == "configmap/settings annotated\n"
    assert sampan("get", "cm/settings", "-o", "jsonpath={.metadata.annotations.note}")[1] == "hello there"
    code, _, err = sampan("label", "cm", "settings", "a=not valid", "--overwrite")
    assert code == 1 and "metadata.labels" in err


def test_describe_tells_why_a_pod_is_pending(sampan: Sampan, file: Callable[[str], str]) -> None:
    sampan("apply", "-f", file(POD.replace("NAME", "a")))
    assert sampan("wait", "pod/a", "--for=condition=PodScheduled=False", "--timeout=90s")[0] == 0
    page = sampan("describe", "pod", "a")[1]
    assert "Not Scheduled:" in page and "no node has joined" in page
    assert sampan("describe", "pods", "nope")[0] == 1
    limit = time.monotonic() + 60
    while "FailedScheduling" not in sampan("events", "--for", "pod/a")[1]:  # written after the condition
        assert time.monotonic() < limit, "no event"
        time.sleep(0.02)
    assert "Warning" not in sampan("events", "--for", "pod/a", "--types=Normal")[1]
    code, _, err = sampan("logs", "a")
    assert code == 1 and "not on a node" in err


def test_delete_waits_until_it_is_gone(sampan: Sampan, file: Callable[[str], str]) -> None:
    path = file(WEB + "---\n" + CONFIG)
    sampan("apply", "-f", path)
    assert (
        sampan("delete", "cm", "settings", "--dry-run=server")[1] == 'configmap "settings" deleted (server dry run)\n'
    )
    assert sampan("delete", "cm/settings") == (0, 'configmap "settings" deleted\n', "")
    code, _, err = sampan("delete", "cm/settings")
    assert code == 1 and 'configmaps "settings" not found' in err
    assert sampan("delete", "cm/settings", "--ignore-not-found") == (0, "", "")
    code, _, err = sampan("delete", "pods")
    assert code == 1 and "--all" in err
    assert sampan("delete", "-f", path, "--ignore-not-found")[0] == 0
    assert sampan("get", "rc,svc")[1] == ""
    assert sampan("wait", "pods", "-l", "app=web", "--for=delete", "--timeout=90s")[0] == 0


def test_wait(sampan: Sampan, file: Callable[[str], str], master: Master) -> None:
    sampan("apply", "-f", file(POD.replace("NAME", "a")))
    code, _, err = sampan("wait", "pod/a", "--for=condition=Ready", "--timeout=200ms")
    assert code == 1 and "timed out after 0.2 s waiting for condition=Ready on pods/a" in err
    code, _, err = sampan("wait", "pod/nope", "--for=condition=Ready", "--timeout=5s")
    assert code == 1 and 'pods "nope" not found' in err
    assert sampan("wait", "pod/nope", "--for=delete") == (0, "pod/nope deleted\n", "")
    code, _, err = sampan("wait", "pod/a", "--for=Ready")
    assert code == 1 and "condition=Ready" in err

    namespace = os.environ["SAMPAN_NAMESPACE"]

    def become_ready() -> None:
        with Client(master.address) as client:
            while True:
                pod = client.get(kinds.POD, namespace, "a")
                pod.status.phase = "Running"
                pod.status.conditions.add(type="Ready", status="True")
                try:
                    client.update(pod, status=True)
                    return
                except Conflict:
                    continue

    later = threading.Timer(0.3, become_ready)
    later.start()
    try:
        assert sampan("wait", "pod", "a", "--for=condition=Ready", "--timeout=90s")[:2] == (0, "pod/a condition met\n")
    finally:
        later.join()
    assert sampan("wait", "pods", "--all", "--for=jsonpath='{.status.phase}'=Running")[0] == 0


def test_tokens(sampan: Sampan, master: Master) -> None:
    code, line, _ = sampan("token", "create", "--ttl=1h", "--description=rack 7")
    assert code == 0 and line.count("\n") == 1
    words = line.split()
    assert words[:4] == ["sampan-node", "--master", master.address, "--token"]
    token_id, _, secret = words[4].partition(".")
    listed = sampan("token", "list")[1]
    assert token_id in listed and "rack 7" in listed and secret not in listed
    assert sampan("token", "revoke", token_id) == (0, f'token "{token_id}" revoked\n', "")
    assert sampan("token", "revoke", token_id)[0] == 1
    assert token_id not in sampan("token", "list")[1]


def test_who_one_is(sampan: Sampan, master: Master) -> None:
    code, _, err = sampan("get", "pods", "--token", "wrong")
    assert code == 1 and "SAMPAN_TOKEN" in err and err.count("\n") == 1
    right = (master.data / "admin.token").read_text().strip()
    assert sampan("get", "pods", "--token", right)[0] == 0


def test_versions_and_names(sampan: Sampan, master: Master) -> None:
    found = json.loads(sampan("version", "-o", "json")[1])
    assert found["client"]["version"] == found["server"]["version"]
    assert found["server"]["address"] == master.address
    # What the shell completes from the master.
    assert "default" in names(click.Context(click.Command("x")), "namespaces", "def")


def test_a_namespace_is_given_before_or_after_the_verb(sampan: Sampan, file: Callable[[str], str]) -> None:
    path = file(CONFIG)
    namespace = os.environ.pop("SAMPAN_NAMESPACE")
    assert sampan("-n", namespace, "apply", "-f", path)[0] == 0
    assert sampan("get", "cm", "-n", namespace, "-o", "name")[1] == "configmap/settings\n"
    assert sampan("--namespace", "default", "get", "cm", "-n", namespace, "-o", "name")[1] == "configmap/settings\n"
    os.environ["SAMPAN_NAMESPACE"] = namespace


def test_cordon_of_what_is_no_node(sampan: Sampan) -> None:
    code, _, err = sampan("cordon", "nope")
    assert code == 1 and 'nodes "nope" not found' in err


def _lines(stream: Any) -> queue.Queue[str]:
    """The lines of a process's output as they come."""
    found: queue.Queue[str] = queue.Queue()

    def read() -> None:
        with stream:
            for line in stream:
                found.put(line)

    threading.Thread(target=read, daemon=True).start()
    return found


def test_a_watch_and_a_backup_outlive_a_killed_master(tmp_path: Path) -> None:
    with running(tmp_path) as master, Client(master.address) as client:
        manifest = json.dumps(yamldoc.load(CONFIG)[0].value)
        client.create(manifest, "default")
        watch = subprocess.Popen(
            [sys.executable, "-m", "cli", "--master", master.address, "get", "cm", "-w", "-o", "name"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            lines = _lines(watch.stdout)
            assert lines.get(timeout=60) == "configmap/settings\n"
            client.create(manifest.replace("settings", "second"), "default")
            assert lines.get(timeout=60) == "configmap/second\n"
            file = str(tmp_path / "backup.db")
            assert run(["--master", master.address, "backup", file]) == 0
            master.kill()
            master.start()
            client.create(manifest.replace("settings", "third"), "default")
            # Each change once: nothing of what was shown before comes again.
            assert lines.get(timeout=60) == "configmap/third\n"
            assert run(["--master", master.address, "restore", file, "--yes"]) == 0
            left = {obj.metadata.name for obj in client.list(kinds.CONFIG_MAP, "default").items}
            assert left == {"settings", "second"}
        finally:
            watch.kill()
            watch.wait()


def test_restore_asks_first(sampan: Sampan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "not-a-backup"
    file.write_bytes(b"x" * 100)
    code, _, err = sampan("restore", str(file), "--yes")
    assert code == 1 and err.startswith("error: ")
    # Nobody answers the question.
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert sampan("restore", str(file))[0] == 130
