"""How far a rollout is, in the words `kubectl rollout status` uses."""

from __future__ import annotations

from dataclasses import dataclass

DONE, ROLLED_BACK, FAILED = 0, 2, 3
"""Exit codes of `rollout status` and `apply --wait`."""


@dataclass(frozen=True)
class Verdict:
    """`code` is None while the rollout goes on; `text` is one line for the user."""

    text: str
    code: int | None = None


def waiting(what: str, how_far: str) -> Verdict:
    return Verdict(f"Waiting for {what} rollout to finish: {how_far}...")
