"""Containers whose end the engine has told of and does not show yet: it tidies up first, and answers no inspect.

The next attempt can be made meanwhile; to be started it needs the address, which is free when the inspect answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from node_agent.runtime.seam import Seen, State


class Dying:
    """What the engine's own `die` events say, until it says the same itself."""

    def __init__(self) -> None:
        self._ended: dict[str, Seen] = {}

    def heard(self, event: Mapping[str, Any], last: Seen | None) -> None:
        """An event about a container whose last look was `last`."""
        id = str(event["Actor"]["ID"])
        if event["Action"] != "die":
            self._ended.pop(id, None)
            return
        code = str((event["Actor"].get("Attributes") or {}).get("exitCode", ""))
        if last is None or last.state is not State.RUNNING or not code.isdigit():
            return
        at = max(last.started_at, event["timeNano"] / 10**9)
        self._ended[id] = dataclasses.replace(
            last, state=State.EXITED, finished_at=at, exit_code=int(code), unsettled=True
        )

    def seen(self, id: str, listed: str) -> Seen | None:
        """The container as it will be shown, while it is still listed as running."""
        if listed == "running":
            return self._ended.get(id)
        self._ended.pop(id, None)
        return None

    def get(self, id: str) -> Seen | None:
        return self._ended.get(id)

    def holding(self, ip: str) -> list[str]:
        """Ids of those that may still have the address."""
        return [id for id, one in self._ended.items() if one.identity.ip == ip and one.identity.alone]

    def forget(self, id: str) -> None:
        self._ended.pop(id, None)

    def keep(self, ids: Collection[str]) -> None:
        """Only these are still there."""
        self._ended = {id: one for id, one in self._ended.items() if id in ids}
