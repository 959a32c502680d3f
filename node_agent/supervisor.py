"""`sampan-node`: keeps the agent and the proxy of one node running, each for itself.

It is small: it reads its flags, then begins its process anew with what it has read, and imports next to nothing. It
must start children before gRPC is ever loaded. The agent dies with it; the proxy outlives it, and the next supervisor
takes it over by its pid file.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from common.backoff import Backoff
from node_agent.exits import EXIT_JOIN_REFUSED, SUPERVISOR

TYPE_CHECKING = False  # as typing has it, which takes half a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.config import AgentConfig

# What the first life of the process has read, for the second: the children, and whose it is.
_READ, _BETWEEN = "SAMPAN_SUPERVISOR_CHILDREN", "\x1f"
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# A child that ran this long has worked: its next failure starts the backoff anew.
_SETTLED_SECONDS = 10.0
_STOP_SECONDS = 20.0
# Adopted processes are not our children: no signal tells of their end.
_ADOPTED_POLL_SECONDS = 0.5


def say(text: str) -> None:
    """One line for whoever watches the node."""
    print(f"sampan-node: {text}", file=sys.stderr, flush=True)  # noqa: T201


class Child:
    """One process that shall run. `pid` 0: it does not.

    `takes_over`: it takes its predecessor's place while that still runs, which then ends by itself; others are stopped
    first.
    """

    def __init__(
        self,
        name: str,
        argv: list[str],
        pid_file: str | os.PathLike[str] | None = None,
        env: dict[str, str] | None = None,
        own_session: bool = False,
        takes_over: bool = False,
    ) -> None:
        self.name, self.argv, self.own_session, self.takes_over = name, argv, own_session, takes_over
        self.pid_file = os.fspath(pid_file) if pid_file is not None else None
        self.env = env or {}
        self.pid = 0
        self.adopted = self.replacing = False
        self.started = self.next_start = 0.0
        self.former: set[int] = set()
        self.backoff = Backoff(0.2, 10.0)

    def start(self, now: float) -> None:
        """Spawns it with signals as usual."""
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *self.argv],
            {**os.environ, **self.env},
            setsigmask=[],
            setsigdef=list(_SIGNALS),
            setsid=self.own_session,
        )
        self.adopted, self.started = False, now
        if self.pid_file is not None:
            with open(self.pid_file, "w") as file:
                file.write(f"{self.pid}\n")

    def adopt(self, now: float) -> bool:
        """Takes over the process its pid file names, if it is still that very program."""
        if self.pid_file is None:
            return False
        try:
            pid = int(_read(self.pid_file))
            words = _read(f"/proc/{pid}/cmdline").split(b"\0")
        except (OSError, ValueError):
            return False
        if [word.decode(errors="replace") for word in words if word][1:] != self.argv or _is_zombie(pid):
            return False
        self.pid, self.adopted, self.started = pid, True, now
        return True

    def replace(self, now: float) -> None:
        """Lets the code that is on the disk now run in its place."""
        if not self.pid:
            self.next_start = now
        elif self.takes_over:
            self.former.add(self.pid)
            self.start(now)
        else:
            self.replacing = True
            self.kill(signal.SIGTERM)

    def ended(self, now: float, why: str) -> None:
        """It is gone; sets when it is started again."""
        if self.replacing:
            self.replacing, self.pid, self.next_start = False, 0, now
            return
        if now - self.started > _SETTLED_SECONDS:
            self.backoff.reset()
        delay = next(self.backoff)
        self.pid, self.next_start = 0, now + delay
        say(f"{self.name} {why}; starting it again in {delay:.1f} s")

    def kill(self, number: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """Runs children until a signal asks to stop, or the master refuses the node."""

    def __init__(self, children: Sequence[Child], clock: Callable[[], float] = time.monotonic) -> None:
        self._children = list(children)
        self._clock = clock
        self._refused = False

    def run(self) -> int:
        """Returns the exit code: 0 when asked to stop, 3 when the master refused the node."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for child in self._children:
            if child.adopt(self._clock()):
                say(f"{child.name} runs already as process {child.pid}: taking it over")
        while not self._refused:
            now = self._clock()
            for child in self._children:
                if not child.pid and child.next_start <= now:
                    child.start(now)
            number = self._wait(self._next_wake(now))
            if number in (signal.SIGTERM, signal.SIGINT):
                say(f"{signal.Signals(number).name}: stopping agent and proxy")
                break
            if number == signal.SIGHUP:
                say("SIGHUP: replacing agent and proxy by what is on the disk")
                for child in self._children:
                    child.replace(self._clock())
            self._reap()
        self._stop()
        return EXIT_JOIN_REFUSED if self._refused else 0

    def _next_wake(self, now: float) -> float:
        due = [child.next_start - now for child in self._children if not child.pid]
        if any(child.adopted for child in self._children):
            due.append(_ADOPTED_POLL_SECONDS)
        return max(0.0, min(due, default=60.0))

    @staticmethod
    def _wait(seconds: float) -> int:
        info = signal.sigtimedwait(_SIGNALS, seconds)
        return info.si_signo if info is not None else 0

    def _reap(self) -> None:
        """Takes every ended process, orphans of others too: in a container we are process 1."""
        now = self._clock()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for child in self._children:
                child.former.discard(pid)
                if child.pid == pid and not child.adopted:
                    self._ended(child, os.waitstatus_to_exitcode(status), now)
        for child in self._children:
            if child.adopted and child.pid and not _alive(child.pid):
                child.adopted = False
                child.ended(now, "ended")

    def _ended(self, child: Child, code: int, now: float) -> None:
        if child.name == "agent" and code == EXIT_JOIN_REFUSED:
            child.pid = 0
            self._refused = True
            say("the agent was not let into the cluster (its message is above); giving up")
            return
        if child.takes_over and code == 0 and child.adopt(now):
            say(f"{child.name} was replaced by process {child.pid}: taking that over")
            return
        child.ended(now, f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}")

    def _stop(self) -> None:
        for child in self._children:
            child.kill(signal.SIGTERM)
            for pid in child.former:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        deadline = self._clock() + _STOP_SECONDS
        while any(child.pid for child in self._children) and self._clock() < deadline:
            self._wait(0.1)
            self._collect()
        for child in self._children:
            if child.pid:
                say(f"{child.name} does not stop: killing it")
            child.kill(signal.SIGKILL)
            if child.pid_file is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(child.pid_file)

    def _collect(self) -> None:
        for child in self._children:
            if child.pid and not child.adopted:
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(child.pid, os.WNOHANG)[0] == 0:
                        continue
                child.pid = 0
            elif child.pid and not _alive(child.pid):
                child.pid = 0


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _alive(pid: int) -> bool:
    """Whether a process that is not our child still runs."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


def _is_zombie(pid: int) -> bool:
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True


def proxy_words(config: AgentConfig) -> list[str]:
    """The proxy's command line after Python's name."""
    argv = ["-m", "proxy", "--socket", str(config.proxy_socket), "--data", str(config.proxy_data), "--takeover"]
    argv += ["--workers", str(config.proxy_workers)]
    argv += ["--log-level", config.log_level, *(["--log-json"] if config.log_json else [])]
    return [*argv, *(["--metrics-listen", config.proxy_metrics_listen] if config.proxy_metrics_listen else [])]


def proxy_child(pid_file: str, argv: list[str]) -> Child:
    """The proxy, in a session of its own so that a signal to our group does not reach it."""
    return Child("proxy", argv, pid_file=pid_file, own_session=True, takes_over=True)


def agent_child(arguments: Sequence[str]) -> Child:
    """The agent with the same flags as ours."""
    return Child("agent", ["-m", "node_agent", *arguments], env={SUPERVISOR: str(os.getpid())})


def _parse(arguments: Sequence[str]) -> AgentConfig:
    import argparse

    from node_agent.config import add_arguments, from_arguments

    parser = argparse.ArgumentParser(
        prog="sampan-node",
        description="Runs one node of a Sampan cluster: its agent and its service proxy.",
        epilog="SIGHUP replaces agent and proxy by the code on the disk; pods and connections go on. "
        "`sampan-node leave` (with the same --data) removes the node's containers and networks.",
    )
    add_arguments(parser, os.environ)
    return from_arguments(parser, parser.parse_args(list(arguments)))


def main(argv: Sequence[str] | None = None) -> None:
    """`sampan-node [flags]` runs a node; `sampan-node leave [flags]` takes it off the machine."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    leaving = arguments[:1] == ["leave"]
    read = os.environ.pop(_READ, "").split(_BETWEEN)
    if not leaving and argv is None and read[0] == str(os.getpid()):
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
            name.write("sampan-node")
        children = [agent_child(arguments)]
        if read[1:]:
            children.append(proxy_child(read[1], read[2:]))
        raise SystemExit(Supervisor(children).run())
    if leaving:
        arguments = arguments[1:]
    config = _parse(arguments)
    config.data.mkdir(parents=True, exist_ok=True)
    proxy = (str(config.data / "proxy.pid"), proxy_words(config))
    if leaving:
        child = proxy_child(*proxy)
        if child.adopt(0.0):
            child.kill(signal.SIGTERM)
        os.execv(sys.executable, [sys.executable, "-m", "node_agent", "leave", *arguments])
    # The same process begins anew, without what reading flags has loaded: half of it, for as long as the node runs.
    words = [proxy[0], *proxy[1]] if config.runtime == "docker" else []
    os.environ[_READ] = _BETWEEN.join([str(os.getpid()), *words])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
