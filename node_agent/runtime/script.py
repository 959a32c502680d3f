"""How a simulated engine and its containers behave: plain data for `node_agent.runtime.simulated`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node_agent.runtime.seam import ContainerSpec, Identity


@dataclass(frozen=True)
class Behaviour:
    """What a container does once started. `exits_after` None: it runs until it is told to end.

    `lines` are its output; `ignores_term`: only SIGKILL ends it; `cannot_start` is the engine's refusal.
    """

    exits_after: float | None = None
    exit_code: int = 0
    lines: tuple[str, ...] = ()
    ignores_term: bool = False
    oom: bool = False
    cannot_start: str = ""
    # What it leaves as its termination message.
    message: str = ""
    # Bytes it uses while it runs, and has written.
    memory: int = 10_000_000
    disk: int = 0


@dataclass(frozen=True)
class Asked:
    """What a container is asked: `what` is exec, http, tcp or grpc; `detail` a command line, a URL, an address."""

    container: Identity
    what: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """How it answers, after `seconds`: for exec an exit code and output, for http a status, else `code` 0 is well.

    `echoes`: a command that gives back what it is sent, until its stdin is closed.
    """

    code: int = 0
    output: str = ""
    error: str = ""
    seconds: float = 0.0
    echoes: bool = False


def run_for_ever(spec: ContainerSpec) -> Behaviour:
    """The default script: every container runs until it is stopped."""
    return Behaviour(lines=(f"{spec.identity.container} of {spec.identity.pod} started",))


def all_is_well(asked: Asked) -> Answer:
    """The default script: every command, page and port is fine."""
    return Answer(code=200) if asked.what == "http" else Answer()


@dataclass
class Script:
    """How this engine behaves; may be changed while it runs. Latencies in seconds.

    `registry` has what pulls find (None: everything); `down`: every call is Unavailable.
    """

    create_seconds: float = 0.0
    start_seconds: float = 0.0
    pull_seconds: float = 0.0
    registry: frozenset[str] | None = None
    behave: Callable[[ContainerSpec], Behaviour] = run_for_ever
    answer: Callable[[Asked], Answer] = all_is_well
    down: bool = False
