"""Which endpoints failed lately: each is passed over for a while, longer each time; pure (takes `now`)."""

from __future__ import annotations

from collections.abc import Collection

from common.routing import Endpoint

COOL_FIRST = 1.0
COOL_CAP = 10.0


class Cooling:
    """`COOL_FIRST` seconds after a failure, doubled up to `COOL_CAP` with each that follows, none after a success."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[Endpoint, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._states)

    def until(self, endpoint: Endpoint) -> float:
        """The time from which the endpoint is as good as the others; 0.0 when it is not cooling."""
        state = self._states.get(endpoint)
        return state[0] if state else 0.0

    def failed(self, endpoint: Endpoint, now: float) -> None:
        state = self._states.get(endpoint)
        if state is not None and now < state[0]:
            return  # one outage seen by many connections at once counts once
        pause = COOL_FIRST if state is None else min(COOL_CAP, state[1] * 2)
        self._states[endpoint] = (now + pause, pause)

    def succeeded(self, endpoint: Endpoint) -> None:
        self._states.pop(endpoint, None)

    def keep(self, members: Collection[Endpoint]) -> None:
        """Forgets all others."""
        for gone in [endpoint for endpoint in self._states if endpoint not in members]:
            del self._states[gone]
