"""An agent's process without what it does not use; in a process of its own, because imports cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

_LEAN = """
import sys
from node_agent.lean import lean_imports
lean_imports()
import node_agent.__main__, node_agent.network, node_agent.runtime.docker
assert sys.modules["rich"] is None
assert "pyroute2" not in sys.modules
"""
_SUPERVISOR = """
import sys
import node_agent.supervisor
assert not {"asyncio", "grpc", "google", "ssl"} & set(sys.modules), sorted(sys.modules)
"""


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_what_is_used_is_loaded() -> None:
    run(_LEAN)


def test_the_supervisor_stays_small() -> None:
    run(_SUPERVISOR)
