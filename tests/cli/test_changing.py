"""The verbs that change objects by hand: patch, diff, edit, set, run, expose, apply --prune; on a real master."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.commands.edit import difference
from tests.cli.calling import Sampan

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "web:1", ports: [{containerPort: 8080, name: http}], env: [{name: A, value: "1"}]}
      - {name: log, image: "log:1"}
"""
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, labels: {app: web}}\ndata: {mode: one}\n"


@pytest.fixture
def web(sampan: Sampan, tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    assert sampan("apply", "-f", str(path))[0] == 0
    return path


def field(sampan: Sampan, what: str, path: str) -> str:
    code, out, err = sampan("get", what, "-o", f"jsonpath={path}")
    assert code == 0, err
    return out.strip()


@pytest.mark.usefixtures("web")
def test_patch(sampan: Sampan, tmp_path: Path) -> None:
    assert sampan("patch", "rc/web", "-p", "spec: {minReadySeconds: 3}")[1] == "replicationcontroller/web patched\n"
    assert field(sampan, "rc/web", "{.spec.minReadySeconds}") == "3"
    assert "no change" in sampan("patch", "rc/web", "-p", "spec: {minReadySeconds: 3}")[1]
    strategic = '{"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:2"}]}}}}'
    assert sampan("patch", "rc", "web", "-p", strategic)[0] == 0
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[*].image}") == "web:1 log:2"
    file = tmp_path / "change.yaml"
    file.write_text("- {op: replace, path: /spec/minReadySeconds, value: 7}\n")
    tried = sampan("patch", "rc/web", "--type=json", f"--patch-file={file}", "--dry-run=server")
    assert tried[1] == "replicationcontroller/web patched (server dry run)\n"
    assert field(sampan, "rc/web", "{.spec.minReadySeconds}") == "3"
    code, _, err = sampan("patch", "rc/web", "-p", "spec: {minReadySecond: 3}")
    assert code == 1 and 'did you mean "minReadySeconds"' in err
    code, _, err = sampan("patch", "rc/web")
    assert code == 1 and "-p TEXT" in err


def test_diff(sampan: Sampan, web: Path, tmp_path: Path) -> None:
    assert sampan("diff", "-f", str(web)) == (0, "", "")
    web.write_text(WEB.replace("web:1", "web:2"))
    code, out, err = sampan("diff", "-f", str(web))
    assert (code, err) == (1, "")
    changed = [line for line in out.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.split() for line in changed] == [["-", "image:", "web:1"], ["+", "image:", "web:2"]]
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[0].image}") == "web:1", "diff stores nothing"
    secret = tmp_path / "secret.yaml"
    secret.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: hidden}\n")
    code, out, _ = sampan("diff", "-f", str(secret))
    assert code == 1 and "***" in out and "hidden" not in out and "aGlkZGVu" not in out
    web.write_text(WEB.replace("replicas: 0", "replicas: -1"))
    code, out, err = sampan("diff", "-f", str(web))
    assert code == 2 and "spec.replicas" in err


@pytest.mark.usefixtures("web")
def test_edit(sampan: Sampan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMPAN_EDITOR", "sed -i s/minReadySeconds:.*//")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert sampan("edit", "rc/web")[1] == "Edit cancelled, no changes made.\n"
    monkeypatch.setenv("SAMPAN_EDITOR", "sed -i s/web:1/web:3/")
    assert sampan("edit", "rc/web")[1] == "replicationcontroller/web edited\n"
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[0].image}") == "web:3"
    monkeypatch.setenv("SAMPAN_EDITOR", "sed -i s/replicas:.0/replicas:\\ -4/")
    code, _, err = sampan("edit", "rc/web")
    assert code == 1 and "spec.replicas" in err
    kept = Path(err.split("your changes are in ")[1].split()[0])
    assert "replicas: -4" in kept.read_text(), "what was written is not lost"
    os.remove(kept)
    monkeypatch.setenv("SAMPAN_EDITOR", "no-such-editor")
    code, _, err = sampan("edit", "rc/web")
    assert code == 1 and 'the editor "no-such-editor" does not start' in err


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}, {"a": {"c": None, "d": 3}}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
    ],
)
def test_what_was_changed_in_the_editor(
    before: dict[str, object], after: dict[str, object], change: dict[str, object]
) -> None:
    assert difference(before, after) == change


@pytest.mark.usefixtures("web")
def test_set(sampan: Sampan, tmp_path: Path) -> None:
    assert sampan("set", "image", "rc/web", "app=web:5")[1] == "replicationcontroller/web image updated\n"
    assert sampan("set", "image", "rc/web", "app=web:5")[1] == "replicationcontroller/web unchanged\n"
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[*].image}") == "web:5 log:1"
    assert sampan("set", "image", "rc/web", "*=all:1")[0] == 0
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[*].image}") == "all:1 all:1"
    code, _, err = sampan("set", "image", "rc/web", "nope=x")
    assert code == 1 and 'no container "nope": there are app, log' in err
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("NAME", "app"))
    sampan("apply", "-f", str(config))
    assert sampan("set", "env", "rc/web", "-c", "app", "B=2", "A-", "--from=configmap/app", "--prefix=C_")[0] == 0
    assert sampan("set", "env", "rc/web", "--list", "-c", "app")[1].splitlines() == [
        "# replicationcontroller/web, container app",
        "# C_MODE from configmap app, key mode",
        "B=2",
    ]
    done = sampan("set", "resources", "rc/web", "-c", "app", "--limits=cpu=500m,memory=64Mi", "--requests=cpu=100m")
    assert done[0] == 0, done
    assert field(sampan, "rc/web", "{.spec.template.spec.containers[0].resources.limits.cpu}") == "500m"
    code, _, err = sampan("set", "resources", "rc/web", "--limits=cpu")
    assert code == 1 and "--limits: must be like" in err
    code, _, err = sampan("set", "image", "svc/web", "a=b")
    assert code == 1


def test_run_and_expose(sampan: Sampan) -> None:
    done = sampan("run", "once", "--image=busybox:1", "--restart=Never", "--env=A=1", "--", "sh", "-c", "date")
    assert done[1] == "pod/once created\n"
    assert field(sampan, "pod/once", "{.spec.containers[0].args[*]}") == "sh -c date"
    code, out, _ = sampan("run", "web", "--image=web:1", "--port=8080", "--dry-run=client", "-o", "yaml")
    assert code == 0 and "containerPort: 8080" in out and "run: web" in out
    assert sampan("get", "pod/web")[0] == 1
    assert sampan("run", "web", "--image=web:1", "--port=8080", "--expose")[1] == (
        "pod/web created\nservice/web created\n"
    )
    assert field(sampan, "svc/web", "{.spec.selector.run}") == "web"
    assert sampan("expose", "pod", "web", "--name=extra", "--port=80", "--target-port=8080")[0] == 0
    assert field(sampan, "svc/extra", "{.spec.ports[0].targetPort}") == "8080"
    assert sampan("expose", "pod/web", "--name=own")[0] == 0
    assert field(sampan, "svc/own", "{.spec.ports[0].port}") == "8080"
    code, _, err = sampan("expose", "pod/once", "--name=none")
    assert code == 1 and "--port is required" in err
    code, _, err = sampan("expose", "pod/web", "--name=np", "--node-port=8765")
    assert code == 1 and "--type=NodePort" in err
    assert sampan("expose", "pod/web", "--name=np", "--node-port=8765", "--type=NodePort")[0] == 0
    assert field(sampan, "svc/np", "{.spec.ports[0].nodePort}") == "8765"


def test_prune(sampan: Sampan, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(CONFIG.replace("NAME", name))
    assert sampan("apply", "-f", str(tmp_path))[0] == 0
    assert sampan("create", "-f", "-")[0] == 1
    (tmp_path / "two.yaml").unlink()
    code, _, err = sampan("apply", "-f", str(tmp_path), "--prune")
    assert code == 1 and "-l LABELS or with --all" in err
    tried = sampan("apply", "-f", str(tmp_path), "--prune", "-l", "app=web", "--dry-run=server")[1]
    assert "configmap/two pruned (server dry run)" in tried
    assert sampan("get", "cm/two")[0] == 0
    assert sampan("apply", "-f", str(tmp_path), "--prune", "-l", "app=other")[1] == "configmap/one unchanged\n"
    done = sampan("apply", "-f", str(tmp_path), "--prune", "-l", "app=web")[1]
    assert done == "configmap/one unchanged\nconfigmap/two pruned\n"
    assert sampan("get", "cm/two")[0] == 1


def test_explain(sampan: Sampan) -> None:
    code, out, _ = sampan("explain", "pods.spec.nodeName")
    assert code == 0 and "nodeName <string>" in out and "skips the scheduler" in out
    assert "rollingUpdate <RollingUpdateDeployment>" in sampan("explain", "deploy.spec.strategy", "--recursive")[1]
    code, _, err = sampan("explain", "pods.spec.nodename")
    assert code == 1 and 'no field "nodename", did you mean "nodeName"' in err
    code, _, err = sampan("explain", "pods.spec.overhead")
    assert code == 1 and "here it is refused" in err
    code, _, err = sampan("explain", "pods.spec.nodeName.x")
    assert code == 1 and "is a string: it has no fields" in err
