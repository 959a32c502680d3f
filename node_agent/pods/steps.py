"""The steps a pod's plan is made of; each has a key, and only one of a key is under way at a time."""

from __future__ import annotations

from dataclasses import dataclass

SANDBOX = "sandbox"


@dataclass(frozen=True)
class CreateSandbox:
    attempt: int

    @property
    def key(self) -> str:
        return SANDBOX


@dataclass(frozen=True)
class StartContainer:
    """Pull if needed, make and start the container `name` in sandbox `sandbox` (id).

    Without a sandbox the container stands alone, with the pod's address; `ip` is then empty.
    """

    name: str
    attempt: int
    crashes: int
    sandbox: str = ""
    ip: str = ""

    @property
    def key(self) -> str:
        return start_key(self.name)


@dataclass(frozen=True)
class Terminate:
    """Run the preStop hook, for `seconds` at the most, and send the stop signal.

    `why` is for the event; `whole`: it is the event's whole message.
    """

    id: str
    name: str
    why: str
    seconds: float = 30.0
    whole: bool = False

    @property
    def key(self) -> str:
        return f"terminate/{self.id}"


@dataclass(frozen=True)
class Kill:
    id: str
    name: str

    @property
    def key(self) -> str:
        return f"kill/{self.id}"


@dataclass(frozen=True)
class Remove:
    id: str

    @property
    def key(self) -> str:
        return f"remove/{self.id}"


@dataclass(frozen=True)
class CleanUp:
    """Nothing of the pod is left in the engine: remove its volumes and give its address back."""

    @property
    def key(self) -> str:
        return "cleanup"


Action = CreateSandbox | StartContainer | Terminate | Kill | Remove | CleanUp


def start_key(name: str) -> str:
    return f"start/{name}"
