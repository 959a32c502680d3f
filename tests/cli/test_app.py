"""The command line itself, as processes: help, flags anywhere, exit codes, errors, start-up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.app import Settings, address
from cli.main import SECTIONS, WRONG_USAGE, sampan
from tests import ports

SAMPAN = [sys.executable, "-m", "cli"]
ROOT = Path(__file__).resolve().parents[2]


def start(*args: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SAMPAN, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
    )


def run(*args: str, **env: str) -> tuple[int, str, str]:
    process = start(*args, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


@pytest.mark.parametrize("args", [["--help"], ["version", "--client"], ["get", "--help"]])
def test_help_imports_neither_grpc_nor_rich(args: list[str]) -> None:
    code = (
        f"import sys; from cli.main import run; run({args!r}); assert not {{'grpc', 'rich', 'yaml'}} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_verb_of_the_help_is_there() -> None:
    for verbs in SECTIONS.values():
        for name in verbs:
            assert sampan.get_command(None, name) is not None  # type: ignore[arg-type]


def test_wrong_usage_has_a_code_of_its_own() -> None:
    code, _, err = run("get", "--nonsense")
    assert code == WRONG_USAGE and "--nonsense" in err
    code, _, err = run("nonsense")
    assert code == WRONG_USAGE and "nonsense" in err


def test_an_unknown_kind_is_told_without_a_master() -> None:
    code, out, err = run("get", "pods,podz")
    assert (code, out) == (1, "")
    assert err.startswith('error: unknown resource "podz", did you mean "pod')


@pytest.mark.parametrize("before", [True, False])
def test_no_master_is_told_at_once(free_port: int, before: bool) -> None:
    flags = ["--master", f"127.0.0.1:{free_port}"]
    code, out, err = run(*(flags if before else []), "get", "pods", *([] if before else flags))
    # The refusal itself is told, not the end of a wait.
    assert (code, out) == (1, "")
    assert err.count("\n") == 1 and "Traceback" not in err
    assert f"error: cannot reach the master at 127.0.0.1:{free_port} (connection refused)" in err
    assert "make up" in err and "SAMPAN_MASTER" in err


def test_the_environment_names_the_master(free_port: int) -> None:
    code, _, err = run("get", "nodes", SAMPAN_MASTER=f"127.0.0.1:{free_port}")
    assert code == 1 and f"127.0.0.1:{free_port}" in err


def test_a_listener_that_says_nothing_is_no_master() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, _, err = run("get", "pods", "--master", f"127.0.0.1:{silent.getsockname()[1]}")
        assert code == 1 and "cannot reach the master" in err


def test_ctrl_c_is_130() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process = start("get", "pods", "--master", f"127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(60)
        connection, _ = silent.accept()  # it dials: it is past its imports and waits
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = start("api-resources")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.5", "10.0.0.5:7443"), ("m:80", "m:80"), ("[::1]", "[::1]:7443"), ("[::1]:5", "[::1]:5")],
)
def test_addresses(text: str, found: str) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["http://m:7443", "m:", "m:x", "m:0", "m:99999", ":7443"])
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    code, _, err = run("get", "pods", "--master", text)
    assert code == WRONG_USAGE and "must be HOST:PORT" in err


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_NAMESPACE", "prod")
    monkeypatch.delenv("SAMPAN_MASTER", raising=False)
    settings = Settings()
    assert (settings.namespace, settings.namespace_given, settings.master) == ("prod", False, "127.0.0.1:7443")


def test_a_manifest_with_faults_is_told_before_anything_is_dialled(tmp_path: Path, free_port: int) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, imag: x}]}\n")
    code, out, err = run("apply", "-f", str(file), "--master", f"127.0.0.1:{free_port}")
    assert (code, out) == (1, "")
    assert f"error: {file}:1:" in err and 'spec.containers[0].imag: unknown field, did you mean "image"?' in err


def test_completion_scripts_and_answers() -> None:
    assert "_SAMPAN_COMPLETE" in run("completion", "bash")[1]
    words = {"COMP_WORDS": "sampan get po", "COMP_CWORD": "2", "_SAMPAN_COMPLETE": "bash_complete"}
    assert "plain,pods" in run(**words)[1]


@pytest.mark.parametrize(
    ("words", "reaches"),
    [
        (("rollout", "status", "deployment/web", "--watch=false"), True),
        (("delete", "pod", "web", "--wait=true", "--now=false"), True),
        (("drain", "node-1", "--ignore-daemonsets=true", "--force=false"), True),
        (("rollout", "status", "deployment/web", "--watch=maybe"), False),
        (("drain", "node-1", "--timeout=false"), False),
    ],
)
def test_flags_may_be_spelled_as_kubectl_spells_them(words: tuple[str, ...], reaches: bool) -> None:
    """`--watch=false`: such a command gets as far as the master; a value that is none is a usage error."""
    code, _, err = run(*words, "--master", "127.0.0.1:9")
    assert ("cannot reach the master" in err) is reaches, err
    assert code == (1 if reaches else WRONG_USAGE)
