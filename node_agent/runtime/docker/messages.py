"""The files that containers write their termination messages to, mounted from below the data directory."""

from __future__ import annotations

from pathlib import Path

from node_agent.runtime.seam import Identity

MESSAGE_BYTES = 4096
"""Kubernetes' limit of one container's message."""
_DIRECTORY = "messages"


def message_file(data_dir: Path, identity: Identity) -> Path:
    """Where a container's file lies: with the pod's other things, gone with them."""
    return data_dir / "pods" / identity.uid / _DIRECTORY / f"{identity.container}_{identity.attempt}"


def make_message_file(path: Path) -> None:
    """An empty one that any user in the container may write to."""
    path.parent.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    path.chmod(0o666)


def read_message(path: Path) -> str:
    """The first `MESSAGE_BYTES` of it; empty when there is no file. A container may have put anything there."""
    try:
        with path.open("rb") as file:
            return file.read(MESSAGE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
