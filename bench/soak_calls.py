"""What the soak asks of the master, call by call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from common.kinds import KINDS
from protos import control_pb2 as control

SPACE = "soak"
ALL = tuple(kind.kind for kind in KINDS)
SECONDS = 60.0
# How long a watch or a stream is followed before its user goes away.
A_WHILE = 0.5


class Calls:
    """In one namespace where none is named. Raises grpc.aio.AioRpcError."""

    def __init__(self, stub: Any, space: str = SPACE) -> None:
        self._stub, self._space = stub, space

    async def apply(self, manifest: dict[str, Any]) -> None:
        request = control.ApplyRequest(object=control.Object(manifest=json.dumps(manifest)))
        await self._stub.Apply(request, timeout=SECONDS)

    async def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        request = control.PatchRequest(kind=kind, namespace=self._space, name=name, type=control.PatchRequest.STRATEGIC)
        request.patch = json.dumps(patch)
        await self._stub.Patch(request, timeout=SECONDS)

    async def get(self, kind: str, name: str, space: str | None = None) -> Any:
        where = self._space if space is None else space
        answer = await self._stub.Get(control.GetRequest(kind=kind, namespace=where, name=name), timeout=SECONDS)
        return _inside(answer.object)

    async def delete(self, kind: str, space: str, name: str) -> None:
        await self._stub.Delete(control.DeleteRequest(kind=kind, namespace=space, name=name), timeout=SECONDS)

    async def evict(self, name: str) -> None:
        await self._stub.Evict(control.EvictRequest(namespace=self._space, name=name), timeout=SECONDS)

    async def pods(self, selector: str, most: int) -> list[Any]:
        request = control.ListRequest(kind="Pod", namespace=self._space, label_selector=selector, limit=most)
        return [_inside(item) for item in (await self._stub.List(request, timeout=SECONDS)).items]

    async def everything(self, of_kinds: Iterable[str] = ALL) -> tuple[dict[str, list[Any]], int]:
        """All objects of some kinds by kind, and the store's revision."""
        found: dict[str, list[Any]] = {}
        revision = 0
        for kind in of_kinds:
            held = found[kind] = []
            request = control.ListRequest(kind=kind, limit=5000)
            while True:
                answer = await self._stub.List(request, timeout=60)
                held += map(_inside, answer.items)
                if not answer.continue_token:
                    break
                request.continue_token = answer.continue_token
            revision = int(answer.resource_version)
        return found, revision

    # -- left before their end --------------------------------------------------------------------

    async def leave_watch(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(A_WHILE):
                async for _ in self._stub.Watch(control.WatchRequest(kind="Pod", namespace=self._space)):
                    pass

    async def leave_logs(self, pod: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(A_WHILE):
                async for _ in self._stub.Logs(control.LogsRequest(namespace=self._space, pod=pod, follow=True)):
                    pass

    async def leave_exec(self, pod: str) -> None:
        start = control.ExecStart(namespace=self._space, pod=pod, argv=["wait"])
        await self._leave(self._stub.Exec(), control.ExecRequest(start=start))

    async def leave_port(self, pod: str) -> None:
        start = control.PortForwardStart(namespace=self._space, target=pod, port="80")
        await self._leave(self._stub.PortForward(), control.PortForwardRequest(start=start))

    async def _leave(self, call: Any, first: Any) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                await call.write(first)
                await call.read()
        finally:
            call.cancel()


def counts(objects: dict[str, list[Any]], revision: int) -> dict[str, float]:
    """How many objects of each kind there are, and the most Events of one namespace."""
    spaces = Counter(event.metadata.namespace for event in objects["Event"])
    found = {f"objects {kind}": float(len(held)) for kind, held in objects.items()}
    return found | {"objects Event in one namespace": float(max(spaces.values(), default=0)), "revision": revision}


def _inside(item: Any) -> Any:
    return getattr(item, item.WhichOneof("object"))
