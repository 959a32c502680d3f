"""The blocking client: one method a verb, plain resource messages in and out, our errors only.

Every gRPC error is turned into a `common.errors` one here, with what a person can do about it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cli import unary
from cli.failure import explain
from common import kinds
from common.errors import Conflict, NotFound, SampanError, Unauthenticated
from common.kinds import Kind, Resource
from common.limits import MAX_MESSAGE_BYTES
from protos import control_pb2 as control

if TYPE_CHECKING:
    # gRPC's library is only loaded for streams: see cli/unary.py.
    import grpc

    from protos.control_pb2_grpc import ControlPlaneStub

_PAGE = 500
_CONFLICT_TRIES = 10
_SERVICE = control.DESCRIPTOR.services_by_name["ControlPlane"]


@dataclass(frozen=True)
class Listing:
    """What a list holds and the revision it was read at."""

    items: list[Any] = field(default_factory=list)
    revision: str = ""


@dataclass(frozen=True)
class Change:
    """One event of a watch: `type` is ADDED, MODIFIED, DELETED or BOOKMARK (then `obj` is None)."""

    type: str
    obj: Any
    revision: str


@dataclass(frozen=True)
class Applied:
    """`outcome` is created, configured or unchanged."""

    obj: Any
    outcome: str
    warnings: tuple[str, ...]


class Client:
    """A connection to one master; dials with the first call. Closes with the `with` block.

    `timeout` is the time-out of one unary request in seconds (0: none); streams have none.
    """

    def __init__(self, address: str, *, token: str = "", timeout: float = 0) -> None:
        self.address = address
        self._timeout = timeout or None
        if not (token.isascii() and token.isprintable()):
            raise Unauthenticated("--token or SAMPAN_TOKEN holds characters that no token has: copy it again")
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel: grpc.Channel | None = None
        self._streams: ControlPlaneStub | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def get(self, kind: Kind, namespace: str, name: str) -> Any:
        """One object. Raises NotFound."""
        request = control.GetRequest(kind=kind.kind, namespace=_scope(kind, namespace), name=name)
        return unwrap(self._call("Get", request).object)

    def find(self, kind: Kind, namespace: str, name: str) -> Any | None:
        """One object, or None when there is none of this name."""
        with contextlib.suppress(NotFound):
            return self.get(kind, namespace, name)
        return None

    def list(self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "") -> Listing:
        """Every object of a kind, all pages; namespace "" is all namespaces."""
        request = control.ListRequest(
            kind=kind.kind,
            namespace=_scope(kind, namespace),
            label_selector=labels,
            field_selector=fields,
            limit=_PAGE,
        )
        items: list[Any] = []
        while True:
            answer = self._call("List", request)
            items += [unwrap(item) for item in answer.items]
            if not answer.continue_token:
                return Listing(items, answer.resource_version)
            request.continue_token = answer.continue_token

    def watch(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        revision: str = "",
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """Changes after `revision`; without one first everything there is, then a BOOKMARK, then changes.

        Ends with the iterator; raises Expired when the revision is too old, TimeoutError after `timeout` seconds.
        """
        request = control.WatchRequest(
            kind=kind.kind,
            namespace=_scope(kind, namespace),
            label_selector=labels,
            field_selector=fields,
            resource_version=revision,
        )
        for event in self._stream("Watch", request, timeout):
            name = control.WatchEvent.Type.Name(event.type)
            yield Change(name, unwrap(event.object) if name != "BOOKMARK" else None, event.resource_version)

    def apply(self, manifest: str, namespace: str, *, dry_run: bool = False) -> Applied:
        """Creates or merges one manifest document."""
        request = control.ApplyRequest(object=control.Object(manifest=manifest), namespace=namespace, dry_run=dry_run)
        answer = self._call("Apply", request)
        outcome = control.ApplyResponse.Outcome.Name(answer.outcome).lower()
        return Applied(unwrap(answer.object), outcome, tuple(answer.warnings))

    def create(self, manifest: str, namespace: str, *, dry_run: bool = False) -> Applied:
        """Creates from one manifest document. Raises AlreadyExists."""
        request = control.CreateRequest(object=control.Object(manifest=manifest), namespace=namespace, dry_run=dry_run)
        answer = self._call("Create", request)
        return Applied(unwrap(answer.object), "created", tuple(answer.warnings))

    def edit(
        self, kind: Kind, namespace: str, name: str, change: Callable[[Any], None], *, dry_run: bool = False
    ) -> tuple[Any, bool]:
        """Reads, changes and writes one object by compare-and-swap, again when someone else was quicker.

        Returns the object and whether anything changed. Raises NotFound; Conflict when it never got through.
        """
        for attempt in range(_CONFLICT_TRIES):
            current = self.get(kind, namespace, name)
            wanted = type(current)()
            wanted.CopyFrom(current)
            change(wanted)
            if wanted == current:
                return current, False
            try:
                return self.update(wanted, dry_run=dry_run), True
            except Conflict:
                time.sleep(0.02 * attempt)
        raise Conflict(f'{kind.resource} "{name}" keeps changing: {_CONFLICT_TRIES} attempts lost; try again')

    def update(self, obj: Resource, *, status: bool = False, dry_run: bool = False) -> Any:
        """Writes an object as it was read and changed. Raises Conflict when it was changed meanwhile."""
        request = control.UpdateRequest(object=wrap(obj), status=status, dry_run=dry_run)
        return unwrap(self._call("Update", request).object)

    def patch(
        self, kind: Kind, namespace: str, name: str, text: str, how: str, *, status: bool = False, dry_run: bool = False
    ) -> tuple[Any, tuple[str, ...]]:
        """Changes part of an object; `how` is STRATEGIC, MERGE or JSON. Returns it with warnings. Raises NotFound."""
        request = control.PatchRequest(
            kind=kind.kind,
            namespace=_scope(kind, namespace),
            name=name,
            type=control.PatchRequest.Type.Value(how),
            patch=text,
            status=status,
            dry_run=dry_run,
        )
        answer = self._call("Patch", request)
        return unwrap(answer.object), tuple(answer.warnings)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        grace: int | None = None,
        propagation: str = "",
        uid: str = "",
        dry_run: bool = False,
    ) -> tuple[Any, bool]:
        """Asks for deletion; returns the object as it is now and whether it is gone already."""
        request = control.DeleteRequest(
            kind=kind.kind,
            namespace=_scope(kind, namespace),
            name=name,
            propagation_policy=propagation,
            uid=uid,
            dry_run=dry_run,
        )
        if grace is not None:
            request.grace_period_seconds = grace
        answer = self._call("Delete", request)
        return unwrap(answer.object), answer.gone

    def evict(
        self, namespace: str, name: str, *, grace: int | None = None, uid: str = "", dry_run: bool = False
    ) -> tuple[Any, bool]:
        """Deletes a pod as its disruption budget allows; returns it as it is now and whether it is gone already.

        Raises BudgetExhausted, NotFound, Conflict when its uid is another.
        """
        request = control.EvictRequest(namespace=namespace, name=name, uid=uid, dry_run=dry_run)
        if grace is not None:
            request.grace_period_seconds = grace
        answer = self._call("Evict", request)
        return answer.pod, answer.gone

    def node_query(self, node: str, what: str) -> Any:
        """What a node knows of itself ("network", "proxy"), as its JSON says. Raises NotFound, Unavailable."""
        answer = self._call("NodeQuery", control.NodeQueryRequest(node=node, what=what))
        return json.loads(answer.json)

    def explain_pod(self, namespace: str, name: str) -> control.ExplainPodResponse:
        """Every node's filters and scores for a pod. Raises NotFound."""
        request = control.ExplainPodRequest(namespace=namespace, name=name)
        answer: control.ExplainPodResponse = self._call("ExplainPod", request)
        return answer

    def logs(self, request: control.LogsRequest) -> Iterator[bytes]:
        """The bytes of a container's log as they come."""
        for chunk in self._stream("Logs", request, None):
            yield chunk.data

    def exec(self, requests: Iterator[control.ExecRequest]) -> Iterator[control.ExecResponse]:
        """A command in a container. The requests are taken as the master wants them, in another thread."""
        return self._stream("Exec", requests, None)

    def attach(self, requests: Iterator[control.AttachRequest]) -> Iterator[control.ExecResponse]:
        """A container's own stdio."""
        return self._stream("AttachPod", requests, None)

    def port_forward(self, requests: Iterator[control.PortForwardRequest]) -> Iterator[control.PortForwardResponse]:
        """One connection to a pod's port. May be called in many threads."""
        return self._stream("PortForward", requests, None)

    def copy(self, requests: Iterator[control.CopyRequest]) -> Iterator[control.CopyResponse]:
        """A container's files as a tar archive."""
        return self._stream("Copy", requests, None)

    def create_token(self, ttl_seconds: int, description: str) -> control.CreateJoinTokenResponse:
        request = control.CreateJoinTokenRequest(ttl_seconds=ttl_seconds, description=description)
        answer: control.CreateJoinTokenResponse = self._call("CreateJoinToken", request)
        return answer

    def list_tokens(self) -> Sequence[control.JoinToken]:
        return tuple(self._call("ListJoinTokens", control.ListJoinTokensRequest()).tokens)

    def revoke_token(self, token_id: str) -> str:
        """Revokes by id or by the whole token; returns the id."""
        return str(self._call("RevokeJoinToken", control.RevokeJoinTokenRequest(id=token_id)).id)

    def backup(self) -> Iterator[bytes]:
        """The store's file in pieces."""
        for chunk in self._stream("Backup", control.BackupRequest(), None):
            yield chunk.data

    def restore(self, pieces: Iterator[bytes]) -> control.RestoreResponse:
        """Replaces the store by a file in pieces."""
        with self._errors():
            chunks = (control.BackupChunk(data=piece) for piece in pieces)
            return self._stub().Restore(chunks, metadata=self._metadata)

    def version(self, timeout: float | None = None) -> control.VersionResponse:
        answer: control.VersionResponse = self._call("Version", control.VersionRequest(), timeout)
        return answer

    def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        try:
            answer = unary.call(
                self.address,
                f"/{_SERVICE.full_name}/{method}",
                request.SerializeToString(),
                headers=dict(self._metadata),
                timeout=timeout or self._timeout,
                most=MAX_MESSAGE_BYTES,
            )
        except unary.CallFailed as error:
            raise explain(error.code, error.details, self.address) from None
        return getattr(control, _SERVICE.methods_by_name[method].output_type.name).FromString(answer)

    def _stub(self) -> ControlPlaneStub:
        """Where streams are called; dials with the first. May be called in many threads."""
        with self._opening:
            if self._streams is None:
                import grpc

                from common.rpc import CHANNEL_OPTIONS
                from protos.control_pb2_grpc import ControlPlaneStub

                self._channel = grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)
                self._streams = ControlPlaneStub(self._channel)
            return self._streams

    def _stream(self, method: str, request: Any, timeout: float | None) -> Iterator[Any]:
        with self._errors(deadline=timeout is not None):
            call = getattr(self._stub(), method)(request, timeout=timeout, metadata=self._metadata)
            try:
                yield from call
            finally:
                call.cancel()

    @contextlib.contextmanager
    def _errors(self, *, deadline: bool = False) -> Iterator[None]:
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            if deadline and code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from None
            raise explain(code.name, error.details() or "", self.address) from None


def wrap(obj: Resource) -> control.Object:
    """The request's envelope around a resource."""
    envelope = control.Object()
    getattr(envelope, kinds.of(obj).singular).CopyFrom(obj)
    return envelope


def unwrap(envelope: control.Object) -> Any:
    """The resource in an answer's envelope. Raises SampanError when this client does not know its kind."""
    name = envelope.WhichOneof("object")
    if name is None or name == "manifest":
        raise SampanError("the master sent an object of a kind this sampan does not know: upgrade sampan")
    return getattr(envelope, name)


def _scope(kind: Kind, namespace: str) -> str:
    return namespace if kind.namespaced else ""
