"""Real child processes: restarted when they die, adopted when we do, ended when we are asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent.exits import EXIT_JOIN_REFUSED

SLEEPER = """
import sys, time
print("up", flush=True)
time.sleep(300)
"""

RUN = """
import sys
from pathlib import Path
from node_agent.supervisor import Child, Supervisor

folder = Path(sys.argv[1])
children = [
    Child("agent", ["-c", sys.argv[2], "agent", str(folder)]),
    Child(
        "proxy",
        ["-c", sys.argv[3], "proxy", str(folder)],
        pid_file=folder / "proxy.pid",
        own_session=True,
        takes_over=True,
    ),
]
raise SystemExit(Supervisor(children).run())
"""


def pids(folder: Path, name: str) -> list[int]:
    """Processes whose last words are ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if words[-3:-1] == [name.encode(), str(folder).encode()] and state != "Z":
            found.append(int(path.parent.name))
    return found


def eventually(true: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


class Node:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def start(self, agent: str = SLEEPER, proxy: str = SLEEPER) -> subprocess.Popen[bytes]:
        # A file, not a pipe: children that outlive the supervisor would keep a pipe open.
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(self.folder), agent, proxy],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )
        self.supervisors.append(process)
        return process

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def one(self, name: str) -> int:
        eventually(lambda: len(pids(self.folder, name)) == 1)
        return pids(self.folder, name)[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for process in made.supervisors:
        process.kill()
        process.wait(90)
    for name in ("agent", "proxy"):
        for pid in pids(tmp_path, name):
            os.kill(pid, signal.SIGKILL)


def test_each_child_is_restarted_and_the_other_is_left_alone(node: Node) -> None:
    node.start()
    agent, proxy = node.one("agent"), node.one("proxy")
    os.kill(agent, signal.SIGKILL)
    eventually(lambda: pids(node.folder, "agent") not in ([], [agent]))
    assert pids(node.folder, "proxy") == [proxy]
    agent = node.one("agent")
    os.kill(proxy, signal.SIGKILL)
    eventually(lambda: pids(node.folder, "proxy") not in ([], [proxy]))
    assert pids(node.folder, "agent") == [agent]


def test_sigterm_ends_both(node: Node) -> None:
    process = node.start()
    node.one("agent"), node.one("proxy")
    process.send_signal(signal.SIGTERM)
    process.wait(90)
    assert process.returncode == 0 and "stopping agent and proxy" in node.said()
    assert pids(node.folder, "agent") == pids(node.folder, "proxy") == []
    assert not (node.folder / "proxy.pid").exists()


def test_the_proxy_outlives_a_killed_supervisor_and_is_adopted(node: Node) -> None:
    first = node.start()
    agent, proxy = node.one("agent"), node.one("proxy")
    eventually(lambda: (node.folder / "proxy.pid").exists())
    first.kill()
    first.wait(90)
    os.kill(agent, signal.SIGKILL)
    assert pids(node.folder, "proxy") == [proxy]
    second = node.start()
    node.one("agent")
    assert pids(node.folder, "proxy") == [proxy]
    os.kill(proxy, signal.SIGKILL)
    eventually(lambda: pids(node.folder, "proxy") not in ([], [proxy]))
    second.send_signal(signal.SIGTERM)
    second.wait(90)
    assert f"process {proxy}: taking it over" in node.said()


def test_a_foreign_process_in_the_pid_file_is_not_adopted(node: Node) -> None:
    (node.folder / "proxy.pid").write_text(f"{os.getpid()}\n")
    node.start()
    assert node.one("proxy") != os.getpid()


def test_a_refused_agent_ends_everything_with_its_code(node: Node) -> None:
    process = node.start(agent=f"raise SystemExit({EXIT_JOIN_REFUSED})")
    process.wait(90)
    assert process.returncode == EXIT_JOIN_REFUSED
    assert "not let into the cluster" in node.said()
    assert pids(node.folder, "proxy") == []


def test_a_crashing_child_is_started_with_growing_pauses(node: Node) -> None:
    process = node.start(agent="raise SystemExit(7)")

    def pauses() -> list[str]:
        return [line.rpartition(" in ")[2] for line in node.said().splitlines() if "exited with code 7" in line]

    eventually(lambda: len(pauses()) >= 3)
    process.send_signal(signal.SIGTERM)
    process.wait(90)
    assert pauses()[:3] == ["0.2 s", "0.4 s", "0.8 s"]


def test_sighup_replaces_the_agent_and_lets_a_new_proxy_take_over(node: Node) -> None:
    supervisor = node.start()
    agent, proxy = node.one("agent"), node.one("proxy")
    os.kill(supervisor.pid, signal.SIGHUP)
    eventually(lambda: len(pids(node.folder, "proxy")) == 2)
    assert proxy in pids(node.folder, "proxy"), "the old one ends by itself, when it is taken over"
    eventually(lambda: pids(node.folder, "agent") not in ([], [agent]))
    (new,) = set(pids(node.folder, "proxy")) - {proxy}
    eventually(lambda: (node.folder / "proxy.pid").read_text() == f"{new}\n")
    os.kill(proxy, signal.SIGTERM)
    eventually(lambda: pids(node.folder, "proxy") == [new])
    os.kill(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait(90) == 0
    assert not pids(node.folder, "proxy") and "exited" not in node.said()
