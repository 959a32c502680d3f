"""`python -m tests.integration.nursery`: has everything of the master imported, and forks a master for each line.

Starting Python and its imports are most of what a master's start costs; a test that kills one two hundred times need
not repeat them. Nothing of a master runs before the fork: no thread, no loop, no gRPC core, no open file.

Standard input: `{"start": [FLAG, ...], "log": PATH}` is answered with `{"pid": N}`, `{"kill": N, "signal": S}` with
`{"ended": WAIT STATUS}` once the process is gone. The end of the input kills what is left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

from master.__main__ import main


def start(flags: list[str], log: str) -> int:
    """A new process that is a master; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # A session of its own: a Ctrl-C at the test is the nursery's matter.
        os.setsid()
        for path, mode, descriptor in ((os.devnull, os.O_RDONLY, 0), (log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)):
            opened = os.open(path, mode, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.dup2(1, 2)
        main.main(flags, prog_name="sampan-master", standalone_mode=False)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(pid: int, number: int) -> int:
    os.kill(pid, number)
    return os.waitpid(pid, 0)[1]


def serve() -> None:
    living: set[int] = set()
    try:
        # readline(): iterating over a file reads ahead.
        while line := sys.stdin.readline():
            asked = json.loads(line)
            if "start" in asked:
                pid = start(asked["start"], asked["log"])
                living.add(pid)
                answer = {"pid": pid}
            else:
                living.discard(asked["kill"])
                answer = {"ended": end(asked["kill"], asked["signal"])}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        for pid in living:
            end(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
