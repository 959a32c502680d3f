"""`sampan-agent`: one node's agent, or with --simulate many simulated ones in one process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys

if __name__ == "__main__":
    from node_agent.lean import lean_imports

    lean_imports()

from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from common import heap, logs
from common.errors import SampanError, Unauthenticated, Unavailable
from common.version import VERSION
from node_agent.agent import NodeAgent, Restart
from node_agent.config import TOKEN_FILE_WAIT_SECONDS, AgentConfig, parse
from node_agent.exits import EXIT_FAILED, EXIT_JOIN_REFUSED, EXIT_RESTART, SUPERVISOR
from node_agent.session import JoinRefused
from node_agent.storage import DirectoryLock, FileStorage

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1
# By then all is loaded that a node needs, and pods that ran before are adopted.
SETTLED_SECONDS = 4.0


async def read_token(config: AgentConfig, known: bool) -> str:
    """The join token; a file is waited for unless the node is `known` and can do without.

    Raises Unauthenticated when the file does not come, or is empty.
    """
    if config.token or config.token_file is None:
        return config.token
    path: Path = config.token_file
    deadline = asyncio.get_running_loop().time() + (0 if known else TOKEN_FILE_WAIT_SECONDS)
    while True:
        try:
            token = (await asyncio.to_thread(path.read_text)).strip()
            if token or known:
                return token
        except OSError as error:
            if known:
                return ""
            log.debug("token.waiting", file=str(path), cause=str(error))
        if asyncio.get_running_loop().time() >= deadline:
            raise Unauthenticated(f"no join token came in {path} within {TOKEN_FILE_WAIT_SECONDS:.0f} s")
        await asyncio.sleep(0.2)


async def run_docker(config: AgentConfig) -> None:
    """One node on the Docker Engine of this machine."""
    # Imported here: a simulated node must run where neither Docker's nor netlink's libraries work.
    from node_agent.lean import import_engine_client
    from node_agent.network import NodeNetwork

    import_engine_client()
    from node_agent.runtime.docker import DockerRuntime

    def runtimes(cluster: str) -> DockerRuntime:
        return DockerRuntime(cluster, config.name, str(config.data), config.docker, config.log_rotation)

    agent = NodeAgent(
        config,
        runtimes=runtimes,
        networks=NodeNetwork,
        storage=FileStorage(config.data),
        token=lambda known: read_token(config, known),
    )
    asyncio.get_running_loop().call_later(SETTLED_SECONDS, heap.settle)
    await agent.run()


async def until_signalled(work: Coroutine[Any, Any, None]) -> bool:
    """Runs `work` until it ends (True) or SIGTERM or SIGINT asks to stop (False)."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
        task.uncancel()
        return False
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return True


def die_with_supervisor() -> None:
    """The agent ends with its supervisor, so that the next one finds no second agent beside its own."""
    parent = int(os.environ.get(SUPERVISOR, "0"))
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(EXIT_FAILED)


def main(argv: Sequence[str] | None = None) -> None:
    """Exit codes: 0 asked to stop, 1 failed, 2 wrong flags, 3 not let into the cluster, 75 to be started again."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    leaving = arguments[:1] == ["leave"]
    config = parse(arguments[1:] if leaving else arguments)
    logs.configure(role="agent", level=config.log_level, json=config.log_json)
    die_with_supervisor()
    heap.one_heap()
    try:
        lock = DirectoryLock(config.data)
    except Unavailable as error:
        print(f"sampan-agent: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_FAILED) from error
    log.info("agent.starting", node=config.name, master=config.master, runtime=config.runtime, version=VERSION)
    try:
        asyncio.run(_run(config, leaving))
    except JoinRefused as error:
        print(f"sampan-agent: the master refused this machine: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_JOIN_REFUSED) from error
    except Restart as error:
        log.warning("agent.restarts", cause=str(error))
        raise SystemExit(EXIT_RESTART) from error
    except SampanError as error:
        print(f"sampan-agent: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_FAILED) from error
    finally:
        lock.release()


async def _run(config: AgentConfig, leaving: bool) -> None:
    if leaving:
        from node_agent.leave import leave

        await until_signalled(leave(config))
        return
    if config.runtime == "simulated":
        from node_agent.simulate import run_simulated

        work = run_simulated(config)
    else:
        work = run_docker(config)
    await until_signalled(work)
    log.info("agent.stopped")


if __name__ == "__main__":
    main()
