"""Carries out a Plan through the resource layer, its actions side by side so that the store commits them in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from common.errors import NotFound, SampanError
from master.api.changing import Changing
from master.controllers.garbage import NAMESPACE_FINALIZER
from master.controllers.plan import Action, Change, Create, Delete, Note, Plan, Release
from master.store.store import key_of

COMPONENT = "controller-manager"
NAMED_IN_EVENT = 10
"""Up to this many pods of one plan get an Event each, as in Kubernetes; more share one."""


class Writer(Changing, Protocol):
    """What is needed of master/api/resources.py; see there."""

    def get(self, kind: str, namespace: str, name: str) -> Any: ...

    async def create(self, obj: Any) -> Any: ...

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        uid: str = "",
    ) -> Any: ...

    async def prune_events(self, now: float) -> int: ...


class PlanFailed(SampanError):
    """Some actions of a plan failed; `errors` are all of them, the text is the first and their number."""

    def __init__(self, errors: list[SampanError]) -> None:
        self.errors = errors
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{errors[0]}{more}")


async def apply(plan: Plan, resources: Writer, slots: asyncio.Semaphore, created: Callable[[Any], None]) -> None:
    """Does everything the plan says; `created` is told of each new object as soon as it is stored.

    Raises PlanFailed after everything else was tried; `plan.after` is done only when nothing failed before, and
    what `plan.failed` says otherwise.
    """
    errors = await _all(plan.actions, resources, slots, created)
    if not errors:
        errors = await _all(plan.after, resources, slots, created)
    elif plan.failed is not None:
        errors += await _all(plan.failed(errors), resources, slots, created)
    if errors:
        raise PlanFailed([error for _, error in errors])


async def _all(
    actions: Iterable[Action], resources: Writer, slots: asyncio.Semaphore, created: Callable[[Any], None]
) -> list[tuple[Action, SampanError]]:
    done: list[tuple[Action, str]] = []
    errors: list[tuple[Action, SampanError]] = []

    async def one(action: Action) -> None:
        async with slots:
            try:
                done.append((action, await carry_out(action, resources, created)))
            except SampanError as error:
                errors.append((action, error))

    async with asyncio.TaskGroup() as group:
        for action in actions:
            group.create_task(one(action), name=f"apply {type(action).__name__}")
    await _tell(done, errors, resources)
    return errors


async def carry_out(action: Action, resources: Writer, created: Callable[[Any], None]) -> str:
    """Does one action; returns the name of what was made or deleted, for the Event."""
    if isinstance(action, Create | Delete) and action.owner is not None and _outdated(action.owner, resources):
        return ""
    match action:
        case Create():
            obj = await resources.create(action.obj)
            created(obj)
            return str(obj.metadata.name)
        case Delete():
            try:
                await resources.delete(
                    *action.key, grace_seconds=action.grace, propagation=action.propagation, uid=action.uid
                )
            except NotFound:
                return ""
            return action.key[2]
        case Change():
            await resources.mutate(*action.key, action.change, status=action.status, uid=action.uid)
        case Release():
            await _release(action, resources)
        case Note():
            await resources.record(action.involved, action.type, action.reason, action.message, COMPONENT)
    return ""


def _outdated(owner: Any, resources: Writer) -> bool:
    """Whether the owner wants something else by now: what was planned for its pods before could break its bounds.

    Nothing is lost: the change that made it so has its key looked at again.
    """
    try:
        newest = resources.get(*key_of(owner)).metadata
    except NotFound:
        return True
    return (newest.uid, newest.generation) != (owner.metadata.uid, owner.metadata.generation)


async def _release(action: Release, resources: Writer) -> None:
    def change(newest: Any) -> None:
        of_namespace = action.key[0] == "Namespace" and action.finalizer == NAMESPACE_FINALIZER
        finalizers = newest.spec.finalizers if of_namespace else newest.metadata.finalizers
        kept = [finalizer for finalizer in finalizers if finalizer != action.finalizer]
        del finalizers[:]
        finalizers.extend(kept)

    await resources.mutate(*action.key, change, uid=action.uid)


async def _tell(done: list[tuple[Action, str]], errors: list[tuple[Action, SampanError]], resources: Writer) -> None:
    """Events on the owners of what was made, deleted, or could not be."""
    for kind, reason, word in ((Create, "SuccessfulCreate", "Created"), (Delete, "SuccessfulDelete", "Deleted")):
        by_owner: dict[str, tuple[Any, list[str]]] = {}
        for action, name in done:
            if isinstance(action, kind) and action.owner is not None and name:
                by_owner.setdefault(action.owner.metadata.uid, (action.owner, []))[1].append(name)
        for owner, names in by_owner.values():
            if len(names) <= NAMED_IN_EVENT:
                messages = [f"{word} pod: {name}" for name in names]
            else:
                messages = [f"{word} {len(names)} pods: {', '.join(sorted(names)[:NAMED_IN_EVENT])} and others"]
            for message in messages:
                await _record(owner, "Normal", reason, message, resources)
    failed: dict[tuple[str, str], tuple[Any, str]] = {}
    for action, error in errors:
        if isinstance(action, Create | Delete) and action.owner is not None:
            reason = "FailedCreate" if isinstance(action, Create) else "FailedDelete"
            text = f"Error {'creating' if isinstance(action, Create) else 'deleting'}: {error}"
            failed.setdefault((action.owner.metadata.uid, reason), (action.owner, text))
    for (_, reason), (owner, text) in failed.items():
        await _record(owner, "Warning", reason, text, resources)


async def _record(involved: Any, type: str, reason: str, message: str, resources: Writer) -> None:
    try:
        await resources.record(involved, type, reason, message, COMPONENT)
    except SampanError:
        # An Event is a courtesy: the owner may be gone by now, its namespace Terminating.
        return
