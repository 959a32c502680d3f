"""A session: one registration of one node, from Register until a newer one, its removal or the master's end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from dataclasses import dataclass, field

from common.errors import SampanError, Unauthenticated, Unavailable
from protos import agent_pb2

# Changes that come within so many seconds travel in one frame.
COALESCE_SECONDS = 0.003


@dataclass(eq=False)
class Session:
    """The master's side of a session. Streams of a session that has ended fail with `cause`."""

    node: str
    node_uid: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    assignments: asyncio.Event = field(default_factory=asyncio.Event)
    routes: asyncio.Event = field(default_factory=asyncio.Event)
    commands_ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cause: SampanError | None = None
    # Latest values; the wire gets what is there when the stream is ready for more.
    commands: list[agent_pb2.Command] = field(default_factory=list)
    # Streams that are open now; the node is connected while there is one.
    streams: int = 0
    node_status: agent_pb2.NodeStatusReport | None = None
    # The version of the stored node that says what `node_status` does; empty: not looked at yet.
    node_settled: str = ""
    assignments_acked: tuple[str, int] = ("", 0)
    routes_acked: tuple[str, int] = ("", 0)
    # The node acknowledges on its stream of routes: what its reports repeat may be older.
    acks_apart: bool = False
    # Connections to endpoints that have left the node's table, by IP and port.
    draining: dict[tuple[str, int], int] = field(default_factory=dict)
    # Called once, at the end: for streams that are no task which could wait for `ended`.
    on_end: list[Callable[[], None]] = field(default_factory=list)

    def end(self, cause: SampanError) -> None:
        """Ends the session and every stream of it; the first cause stays."""
        if self.cause is None:
            self.cause = cause
            self.ended.set()
            for call in [*self.on_end]:
                call()

    def applied(
        self, epoch: str, revision: int, draining: Collection[agent_pb2.DrainingEndpoint], *, repeated: bool = False
    ) -> bool:
        """Notes what the node's proxy serves and still drains; True when that is news.

        `repeated`: a report says it, on its own way. It counts when it is newer than what the stream of routes said,
        since a change that is none for the proxy is only told there.
        """
        if repeated and self.acks_apart:
            known, at = self.routes_acked
            if epoch != known or revision <= at:
                return False
        drains = {(place.ip, place.port): place.connections for place in draining} if draining else {}
        acked = (epoch, revision)
        if acked == self.routes_acked and drains == self.draining:
            return False
        self.routes_acked, self.draining = acked, drains
        return True

    def command(self, command: agent_pb2.Command) -> None:
        """Queues a command for the agent."""
        self.commands.append(command)
        self.commands_ready.set()

    def take_commands(self) -> list[agent_pb2.Command]:
        commands, self.commands = self.commands, []
        return commands


async def ticks(event: asyncio.Event) -> AsyncGenerator[None, None]:
    """At once, then after every `event.set()`: a lone one at once, of those that follow close behind one tick."""
    loop = asyncio.get_running_loop()
    while True:
        event.clear()
        yield
        ticked = loop.time()
        await event.wait()
        await asyncio.sleep(max(0.0, ticked + COALESCE_SECONDS - loop.time()))


class Sessions:
    """All sessions by id and by node; a node has at most one."""

    def __init__(self, opened: Callable[[str, str], None], closed: Callable[[str, str], None]) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_node: dict[str, Session] = {}
        self._opened = opened
        self._closed = closed

    def __len__(self) -> int:
        return len(self._by_node)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_node.values()))

    def of(self, node: str) -> Session | None:
        """The node's session, connected or not."""
        return self._by_node.get(node)

    def start(self, node: str, node_uid: str) -> Session:
        """A new session; an older one of the node ends."""
        self.end(node, Unavailable("a newer registration of this node has taken over"))
        session = Session(node, node_uid)
        self._by_id[session.id] = self._by_node[node] = session
        return session

    def end(self, node: str, cause: SampanError) -> None:
        session = self._by_node.pop(node, None)
        if session is not None:
            self._by_id.pop(session.id, None)
            session.end(cause)
            self._closed(node, session.id)

    def end_all(self, cause: SampanError) -> None:
        for session in self:
            self.end(session.node, cause)

    def get(self, session_id: str) -> Session:
        """Raises Unauthenticated when there is none: the agent registers again."""
        session = self._by_id.get(session_id)
        if session is None:
            raise Unauthenticated("this session is not known (any more): register again")
        return session

    def stream_opened(self, session: Session) -> None:
        session.streams += 1
        if session.streams == 1:
            self._opened(session.node, session.id)

    def stream_closed(self, session: Session) -> None:
        session.streams -= 1
        if session.streams == 0:
            self._closed(session.node, session.id)
