"""Whose processes an agent ends, and the files of termination messages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.runtime.docker.config import container_body
from node_agent.runtime.docker.exec import kill_in_container
from node_agent.runtime.docker.messages import MESSAGE_BYTES, make_message_file, message_file, read_message
from node_agent.runtime.seam import ContainerSpec, Identity

IDENTITY = Identity("main", "node-1", "default", "web", "uid-1", "app", 3, sandbox="f00")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_only_processes_of_the_container_are_ended(sleeper: subprocess.Popen[bytes]) -> None:
    assert not kill_in_container(sleeper.pid, "ab" * 32)
    assert sleeper.poll() is None
    # The path of its own cgroup stands in for a container's id here.
    cgroup = Path(f"/proc/{sleeper.pid}/cgroup").read_text().splitlines()[0]
    assert kill_in_container(sleeper.pid, cgroup)
    assert sleeper.wait(10) == -9
    assert not kill_in_container(sleeper.pid, cgroup)


def test_message_files(tmp_path: Path) -> None:
    path = message_file(tmp_path, IDENTITY)
    assert path == tmp_path / "pods" / "uid-1" / "messages" / "app_3"
    assert read_message(path) == ""
    make_message_file(path)
    assert path.stat().st_mode & 0o777 == 0o666
    assert (tmp_path / "pods").stat().st_mode & 0o777 == 0o700
    path.write_bytes(b"\xff" + b"x" * 2 * MESSAGE_BYTES)
    assert read_message(path) == "\ufffd" + "x" * (MESSAGE_BYTES - 1)
    path.unlink()
    path.mkdir()
    assert read_message(path) == ""


def test_signal_and_stdin_in_the_body() -> None:
    plain = container_body(ContainerSpec(IDENTITY, "app:1"))
    assert "StopSignal" not in plain and "StdinOnce" not in plain
    body = container_body(ContainerSpec(IDENTITY, "app:1", stop_signal="SIGQUIT", stdin=True, stdin_once=True))
    assert (body["StopSignal"], body["OpenStdin"], body["StdinOnce"]) == ("SIGQUIT", True, True)
