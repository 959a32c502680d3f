"""Bad input through the real command line to a real master: told with what to do, and nothing in the store changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from cli.client import Client
from cli.main import run
from common import kinds, yamldoc
from node_agent.exits import EXIT_JOIN_REFUSED
from protos import control_pb2 as pb
from protos.control_pb2_grpc import ControlPlaneStub
from tests.cli.masters import ROOT, Master, running

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: c, image: "web:1"}
"""
RC = """\
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1"}]}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: second}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 8765}]}
"""
HELD = SERVICE.replace("second", "first")
CONFIG = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {mode: one}}"

Said = tuple[int, str, str]
Sampan = Callable[..., Said]


def pod(**fields: str) -> str:
    """POD with further fields of its container, each as YAML."""
    return POD.replace('"web:1"}', ", ".join(['"web:1"', *(f"{name}: {text}" for name, text in fields.items())]) + "}")


@dataclass(frozen=True)
class Bad:
    """A manifest, and what `sampan apply` must say of it."""

    what: str
    manifest: str
    says: tuple[str, ...]


MANIFESTS = (
    Bad(
        "unknown field",
        POD.replace("image:", "imagge:"),
        ('m.yaml:1: Pod "p" spec.containers[0].imagge: unknown field, did you mean "image"?', "nothing was sent"),
    ),
    Bad("unknown field at the top", POD.replace("spec:", "specs:"), ('specs: unknown field, did you mean "spec"?',)),
    Bad("wrong type", RC.replace(" 2", " two"), ('spec.replicas: must be an integer, got "two"',)),
    Bad(
        "mapping for a list",
        pod(ports="{containerPort: 80}"),
        ("spec.containers[0].ports: must be a list, got a mapping",),
    ),
    Bad(
        "number for text",
        pod(env="[{name: A, value: 1}]"),
        ('env[0].value: must be text, got 1: put it in quotes, "1"',),
    ),
    Bad(
        "bad quantity",
        pod(resources="{requests: {memory: 12Mib}}"),
        ('spec.containers[0].resources.requests[memory]: must be a quantity such as 100m, 0.5, 128Mi; got "12Mib"',),
    ),
    Bad(
        "request above the limit",
        pod(resources="{requests: {memory: 2Gi}, limits: {memory: 1Gi}}"),
        ("resources.requests[memory]: must be at most the limit of 1Gi, got 2Gi",),
    ),
    Bad(
        "bad label",
        POD.replace("{name: p}", '{name: p, labels: {"bad key!": x, app: "a b"}}'),
        ("metadata.labels[app]: must be empty or consist of", "got 'a b'", "got 'bad key!'", "example.com/tier"),
    ),
    Bad(
        "bad name",
        POD.replace("{name: p}", "{name: My_Pod}"),
        ("metadata.name: must consist of lower-case letters", "got 'My_Pod'"),
    ),
    Bad("no name", POD.replace("{name: p}", "{}"), ("Pod: metadata.name is required",)),
    Bad(
        "port out of range",
        pod(ports="[{containerPort: 99999}]"),
        ("spec.containers[0].ports[0].containerPort: must be 1-65535, got 99999",),
    ),
    Bad(
        "missing selector",
        RC.replace("  selector: {app: web}\n", "").replace("{labels: {app: web}}", "{}"),
        ("spec.selector: is required",),
    ),
    Bad(
        "selector that selects nothing of its own",
        RC.replace("selector: {app: web}", "selector: {app: other}"),
        ("spec.template.metadata.labels: must match the selector app=other, got app=web",),
    ),
    Bad(
        "duplicate nodePort",
        SERVICE,
        ('Service "second"', "spec.ports[0].nodePort: 8765 is already used by service default/first: choose another"),
    ),
    Bad(
        "image that cannot be one",
        POD.replace('"web:1"', '"not an image"'),
        ("spec.containers[0].image: must not contain spaces, got 'not an image'",),
    ),
    Bad(
        "mount of no volume",
        pod(volumeMounts="[{name: nope, mountPath: /x}]"),
        ("volumeMounts[0].name: no volume of this pod is called 'nope'",),
    ),
    Bad(
        "secret that is not base64",
        '{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: "not base64!"}}',
        ("data[a]: must be base64", "use stringData"),
    ),
    Bad(
        "YAML that breaks off",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n spec: {}\n",
        ("m.yaml:5:2: ", "nothing was sent"),
    ),
    Bad("tabs", "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: p\n", ("m.yaml:4:1: ", "indent with spaces, not tabs")),
    Bad("a key twice", "kind: Pod\napiVersion: v1\nkind: Pod\n", ('m.yaml:3:1: the key "kind" is there twice',)),
    Bad("no mapping", "hello\n", ("m.yaml:1:1: a manifest must be a mapping",)),
    Bad("nothing at all", "", ("no objects in ", "m.yaml")),
    Bad(
        "unsupported kind",
        CONFIG + "\n---\n{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: d}, spec: {}}",
        ("m.yaml:3: kind StatefulSet (apps/v1) is not supported yet", "nothing was sent"),
    ),
    Bad("unknown kind", POD.replace("Pod", "Pdo"), ('unknown kind "Pdo", did you mean "Pod"?', "known: ConfigMap")),
    Bad("wrong version", POD.replace("v1", "v2", 1), ('kind Pod has apiVersion "v1", got "v2"',)),
    Bad(
        "unsupported field",
        POD.replace("spec:\n", "spec:\n  volumes: [{name: v, persistentVolumeClaim: {claimName: x}}]\n"),
        ("spec.volumes[0].persistentVolumeClaim: is not supported yet",),
    ),
    Bad(
        "several faults in what is written",
        POD.replace("image:", "imagge:").replace("spec:\n", "spec:\n  hostNetwrk: true\n  nodeName: [a]\n"),
        (
            "3 faults",
            '\n  * m.yaml:1: Pod "p" spec.hostNetwrk: unknown field, did you mean "hostNetwork"?',
            "spec.nodeName: must be text, got a list",
            "spec.containers[0].imagge: unknown field",
        ),
    ),
    Bad(
        "several faults in what is meant",
        pod(ports="[{containerPort: 0}, {containerPort: 70000}]")
        .replace("{name: p}", '{name: P, labels: {a: "b c"}}')
        .replace("spec:\n", "spec:\n  restartPolicy: Sometimes\n"),
        (
            '"P" is invalid:\n',
            "\n  * metadata.name: ",
            "\n  * metadata.labels[a]: ",
            "\n  * spec.containers[0].ports[0].containerPort: ",
            "\n  * spec.containers[0].ports[1].containerPort: must be 1-65535, got 70000",
            "\n  * spec.restartPolicy: must be one of Always, OnFailure, Never, got 'Sometimes'",
        ),
    ),
    Bad(
        "faults in several documents",
        f"{POD.replace('image:', 'imagge:')}---\n{RC.replace(' 2', ' two')}",
        ("2 faults", "m.yaml:1: Pod", "m.yaml:8: ReplicationController", "nothing was sent"),
    ),
    Bad(
        "namespace that is not there",
        POD.replace("{name: p}", "{name: p, namespace: nowhere}"),
        ('namespace "nowhere" not found: create it first',),
    ),
    Bad(
        "object that is too large",
        f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big}}, data: {{a: {'x' * 1_100_000}}}}}",
        ('ConfigMap "big" is too large: 1100', "at most 1048576 are stored"),
    ),
)

COMMANDS: tuple[tuple[str, int, str], ...] = (
    (
        "get nodes --master 127.0.0.1:1",
        1,
        "cannot reach the master at 127.0.0.1:1 (connection refused): is it running?",
    ),
    ("get nodes --master no-such-host.invalid:7443", 1, "(no such host)"),
    ("get nodes --token wrong", 1, "the token is not this cluster's admin token: set SAMPAN_TOKEN or --token"),
    ("get things", 1, 'unknown resource "things" (known: configmaps, controllerrevisions'),
    ("get pod nothing", 1, '"nothing" not found in namespace default'),
    ("get pods -o xml", 1, '-o "xml" is not a format: write one of wide, yaml, json'),
    ("get pods -l a=b,,", 1, "write it like 'app=web', 'tier in (a,b)'"),
    ("get pods --field-selector spec.foo=x", 1, "supported are metadata.name"),
    ("scale rc/nothing --replicas=3", 1, '"nothing" not found'),
    ("scale rc/nothing --replicas=many", 64, "'many' is not a valid integer"),
    ("delete pod nothing", 1, '"nothing" not found'),
    ("label svc/first a!b=c", 1, "such as app or example.com/app"),
    ("token create --ttl=-1h", 1, "--ttl must be at least 1s"),
    ("token revoke nothing", 1, "`sampan token list` shows those there are"),
    ("apply -f no-such-file.yaml", 1, 'the path "no-such-file.yaml" does not exist'),
    ("frobnicate", 64, "No such command 'frobnicate'"),
)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A master that holds one Service with a nodePort and one ConfigMap."""
    with running(tmp_path_factory.mktemp("master")) as found, Client(found.address) as client:
        client.apply(json.dumps(_loaded(HELD)), "default")
        client.apply(json.dumps(_loaded(CONFIG)), "default")
        deadline = time.monotonic() + 60
        # Its controller makes Endpoints of the Service: from then on nothing changes by itself.
        while client.find(kinds.ENDPOINTS, "default", "first") is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield found


def _loaded(text: str) -> object:
    return yamldoc.load(text)[0].value


def stored(master: Master) -> dict[tuple[str, str, str], str]:
    """Every object of every kind with its resourceVersion."""
    with Client(master.address) as client:
        return {
            (kind.kind, item.metadata.namespace, item.metadata.name): item.metadata.resourceVersion
            for kind in kinds.KINDS
            for item in client.list(kind, "").items
        }


@pytest.fixture
def sampan(
    master: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Sampan]:
    """Runs a command line; exit code, stdout, stderr. After the test the store must be as it was before."""
    for name in os.environ:
        if name.startswith("SAMPAN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SAMPAN_MASTER", master.address)
    monkeypatch.chdir(tmp_path)
    before = stored(master)

    def call(*words: str) -> Said:
        capsys.readouterr()
        code = run(list(words))
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return code, said.out, said.err

    yield call
    assert stored(master) == before


@pytest.mark.parametrize("bad", MANIFESTS, ids=[bad.what for bad in MANIFESTS])
def test_a_bad_manifest_is_told_and_changes_nothing(sampan: Sampan, bad: Bad) -> None:
    Path("m.yaml").write_text(bad.manifest)
    code, out, err = sampan("apply", "-f", "m.yaml")
    assert (code, out) == (1, "")
    assert err.startswith(("error: ", "Warning: "))
    for words in bad.says:
        assert words in err


@pytest.mark.parametrize(("line", "code", "says"), COMMANDS, ids=[line for line, _, _ in COMMANDS])
def test_a_bad_command_line_is_told(sampan: Sampan, line: str, code: int, says: str) -> None:
    was, out, err = sampan(*line.split())
    assert (was, out) == (code, "")
    assert says in err


def test_the_message_reaches_a_shell_without_a_traceback(master: Master, tmp_path: Path) -> None:
    """As the installed command: exit code and standard error."""
    command = [sys.executable, "-m", "cli", "apply", "-f", "-", "--master", master.address]
    done = subprocess.run(command, input="a: [", capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: stdin:") and "Traceback" not in done.stderr


def test_a_message_that_is_too_large_is_told(sampan: Sampan, master: Master) -> None:
    size = 64 * 1024 * 1024 + 1
    Path("m.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "huge"}, "data": {"a": "x" * size}})
    )
    code, out, err = sampan("apply", "-f", "m.json")
    assert (code, out) == (1, "")
    assert "too large" in err and "at most 67108864 bytes" in err and "CLIENT" not in err
    # One that does not keep to the limit itself is refused by the master.
    with grpc.insecure_channel(master.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        request = pb.ApplyRequest(object=pb.Object(manifest="x" * size))
        with pytest.raises(grpc.RpcError) as caught:
            ControlPlaneStub(channel).Apply(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_stale_update_is_aborted_and_says_what_to_do(master: Master) -> None:
    with grpc.insecure_channel(master.address) as channel:
        stub = ControlPlaneStub(channel)
        ask = pb.GetRequest(kind="ConfigMap", namespace="default", name="settings")
        read = stub.Get(ask, timeout=60).object
        newer = pb.Object.FromString(read.SerializeToString())
        newer.configmap.data["mode"] += " more"
        stub.Update(pb.UpdateRequest(object=newer), timeout=60)
        before = stored(master)
        read.configmap.data["mode"] = "less"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Update(pb.UpdateRequest(object=read), timeout=60)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    said = caught.value.details() or ""
    assert '"settings"' in said and "read it again" in said
    assert stored(master) == before


def token(sampan: Sampan, *words: str) -> str:
    code, out, err = sampan("token", "create", "--print-token", *words)
    assert code == 0, err
    return out.strip()


def test_a_machine_without_a_good_token_is_refused_with_the_reason_and_seen_by_nobody(
    master: Master, sampan: Sampan, tmp_path: Path
) -> None:
    good, revoked, expired = token(sampan), token(sampan), token(sampan, "--ttl=1s")
    ids = [each.partition(".")[0] for each in (good, revoked, expired)]
    assert sampan("token", "revoke", ids[1])[0] == 0
    deadline = time.monotonic() + 60
    while not re.search(rf"{ids[2]} +expired", sampan("token", "list")[1]):
        assert time.monotonic() < deadline, "the token does not expire"
        time.sleep(0.1)
    tokens = {
        "missing": ("", "token"),
        "malformed": ("sesame", "must look like abc123."),
        "wrong": (f"{ids[0]}.{'0' * 32}", f"the secret of the join token {ids[0]} is wrong: copy the whole token"),
        "revoked": (revoked, f"the join token {ids[1]} is unknown or was revoked: make a new one with"),
        "expired": (expired, f"the join token {ids[2]} expired at "),
    }
    refused(master, tmp_path, tokens)
    assert sampan("get", "nodes")[1] == ""
    # So that the store is as it was.
    assert sampan("token", "revoke", ids[0], ids[2])[0] == 0


def refused(master: Master, folder: Path, tokens: dict[str, tuple[str, str]]) -> None:
    """Starts a node with each token; each must end by itself, with the exit code for it and the reason."""
    flags = ["--runtime", "simulated", "--node-ip", "127.0.0.1", "--master", master.address]
    started = {}
    try:
        for name, (text, _) in tokens.items():
            command = [sys.executable, "-m", "node_agent.supervisor", *flags, "--name", name, "--token", text]
            started[name] = subprocess.Popen(
                [*command, "--data", str(folder / name)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        for name, (_, reason) in tokens.items():
            _, err = started[name].communicate(timeout=60)
            assert started[name].returncode == EXIT_JOIN_REFUSED, err
            assert "sampan-agent: the master refused this machine: " in err and reason in err
            assert "Traceback" not in err
    finally:
        for process in started.values():
            process.kill()
            process.wait()
