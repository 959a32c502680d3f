"""What is kept of a process's heap; in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import gc, threading
from common import heap
heap.one_heap()
kept = [[] for _ in range(1000)]
heap.settle()
assert gc.get_freeze_count() > 1000 and gc.isenabled()
threading.Thread(target=bytearray, args=(1 << 20,)).start()
"""


def test_what_is_loaded_is_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
