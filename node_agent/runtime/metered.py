"""Times every call to a container runtime, whichever it is."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, cast

from common.errors import SampanError
from node_agent.runtime.seam import Runtime

# Name of the call, seconds it took, and the reason of the error it raised (empty: none).
Observe = Callable[[str, float, str], None]


def metered(runtime: Runtime, observe: Observe, clock: Callable[[], float] = time.monotonic) -> Runtime:
    """The same runtime; `observe` hears of each call that has ended. Iterators (logs, hints) are not timed."""
    return cast(Runtime, _Metered(runtime, observe, clock))


class _Metered:
    def __init__(self, runtime: Runtime, observe: Observe, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._observe = observe
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        """Asked only for what is not here yet: each call is wrapped once."""
        call = getattr(self._runtime, name)
        if not inspect.iscoroutinefunction(call):
            return call

        @functools.wraps(call)
        async def timed(*args: Any, **named: Any) -> Any:
            began, reason = self._clock(), ""
            try:
                return await call(*args, **named)
            except SampanError as error:
                reason = error.reason
                raise
            finally:
                self._observe(name, self._clock() - began, reason)

        setattr(self, name, timed)
        return timed
