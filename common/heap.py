"""How a long-lived process keeps its memory: one heap for its few threads, what is loaded left out of collections."""

from __future__ import annotations

import ctypes
import gc

# malloc.h: M_TRIM_THRESHOLD, M_ARENA_MAX.
_TRIM_THRESHOLD, _ARENA_MAX = -1, -8
_TRIM_BYTES = 256 * 1024
# Objects made until the youngest are looked through, and such looks until older ones are: most garbage here is counted
# away, and a look through all of a large store takes longer than a change may wait.
_YOUNG, _MIDDLE, _OLD = 10_000, 20, 50


def one_heap() -> None:
    """To be called before threads are started. glibc gives each of them a heap of its own otherwise, mostly empty."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)


def settle() -> None:
    """What is there now stays: it is never looked through again, and memory in between goes back. Takes some 30 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
