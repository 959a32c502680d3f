"""What a controller wants done, as data: every reconcile function returns a Plan, the runner carries it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import SampanError
from master.store.store import Key, key_of


@dataclass(frozen=True)
class Create:
    """Make `obj`; with `owner`, tell on the owner that it was made, or why it could not be."""

    obj: Any
    owner: Any = None


@dataclass(frozen=True)
class Delete:
    """Delete the object if it still has this uid; `grace` in seconds, None for the object's own."""

    key: Key
    uid: str
    grace: int | None = None
    propagation: str = "Background"
    owner: Any = None


@dataclass(frozen=True)
class Change:
    """Alter the object if it still has this uid. `change` gets a copy of the newest state and must look
    again whether its reason still holds: it may be called more than once. `what` is for the log and for tests."""

    key: Key
    uid: str
    what: str
    change: Callable[[Any], None] = field(compare=False)
    status: bool = False


@dataclass(frozen=True)
class Release:
    """Take a finalizer off a Terminating object, which goes when it was the last one."""

    key: Key
    uid: str
    finalizer: str


@dataclass(frozen=True)
class Note:
    """Record an Event about `involved`; `type` is Normal or Warning."""

    involved: Any
    type: str
    reason: str
    message: str


Action = Create | Delete | Change | Release | Note


@dataclass(frozen=True)
class Plan:
    """Actions with no order among them; then `after`, once all of those are done.

    `again`: look at the same key once more after this many seconds, though nothing changes.
    `failed`: what to do instead of `after` when actions were refused, given those with their errors.
    """

    actions: tuple[Action, ...] = ()
    after: tuple[Action, ...] = ()
    again: float | None = None
    failed: Callable[[Sequence[tuple[Action, SampanError]]], tuple[Action, ...]] | None = field(
        default=None, compare=False
    )

    def __bool__(self) -> bool:
        return bool(self.actions or self.after)

    def summary(self) -> str:
        """One short line for the log: `create 3 Pod, delete 1 Pod, status`."""
        counts = Counter(_word(action) for action in (*self.actions, *self.after))
        return ", ".join(word.replace("#", str(count)) for word, count in counts.items()) or "nothing"


NOTHING = Plan()


def _word(action: Action) -> str:
    match action:
        case Create():
            return f"create # {key_of(action.obj)[0]}"
        case Delete():
            return f"delete # {action.key[0]}"
        case Change():
            return f"{action.what} # {action.key[0]}"
        case Release():
            return f"release # {action.key[0]}"
        case Note():
            return f"note # {action.reason}"
