"""A pod network for tests that need no real one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    name: str
    first: str
    last: str


NETWORK = Network("pods", "10.0.0.2", "10.0.0.200")
