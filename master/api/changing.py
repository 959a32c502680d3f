"""What the rooms that decide (controllers, scheduler) need of the resource layer alike: changing objects, Events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Changing(Protocol):
    """Part of master/api/resources.py; see there."""

    async def mutate(
        self,
        kind: str,
        namespace: str,
        name: str,
        change: Callable[[Any], None],
        *,
        status: bool = False,
        uid: str = "",
    ) -> Any | None: ...

    async def record(self, involved: Any, type: str, reason: str, message: str, component: str) -> None: ...
