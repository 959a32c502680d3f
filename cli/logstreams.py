"""Several containers' logs on one output: whole lines, a prefix where wanted, and who could not be read."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from common.errors import BadRequest, SampanError, Unavailable
from protos import control_pb2 as control

# A line that is longer goes out in parts: its end may never come.
MOST_LINE = 64 * 1024


@dataclass(frozen=True)
class Source:
    """One container of one pod."""

    pod: str
    container: str
    node: str
    request: control.LogsRequest

    @property
    def name(self) -> str:
        return f"pod/{self.pod}/{self.container}"


def sources(pods: Iterable[Any], containers: Callable[[Any], Sequence[str]], base: control.LogsRequest) -> list[Source]:
    """A source for each container of each pod, with `base` as what else is asked; pure."""
    found = []
    for pod in pods:
        for container in containers(pod):
            request = control.LogsRequest()
            request.CopyFrom(base)
            request.namespace, request.pod, request.container = pod.metadata.namespace, pod.metadata.name, container
            found.append(Source(pod.metadata.name, container, pod.spec.nodeName, request))
    return found


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes as whole lines, each with its line feed; the last gets one when it has none; pure."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > MOST_LINE:
            yield rest + b"\n"
            rest = b""
    if rest:
        yield rest + b"\n"


def copy_out(pieces: Iterable[bytes]) -> None:
    """One log byte for byte, as it comes."""
    for data in pieces:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class Printer:
    """Prints from many threads, a line at a time; notes what could not be read."""

    def __init__(self, read: Callable[[control.LogsRequest], Iterator[bytes]], *, prefix: bool) -> None:
        self._read, self._prefix = read, prefix
        self._lock = threading.Lock()
        self.failed: list[tuple[Source, SampanError]] = []
        # What ended the output itself, a closed pipe perhaps.
        self.broken: OSError | None = None

    def one(self, source: Source) -> None:
        """Everything of one source. Its errors are noted, not raised."""
        head = f"[{source.name}] ".encode() if self._prefix else b""
        out = sys.stdout.buffer
        try:
            with contextlib.closing(self._read(source.request)) as pieces:  # type: ignore[type-var]
                for line in lines(pieces):
                    with self._lock:
                        out.write(head + line)
                        out.flush()
        except SampanError as error:
            with self._lock:
                self.failed.append((source, error))
                click.echo(f"error: {source.name}: {error}", err=True)
        except OSError as error:
            self.broken = error

    def in_turn(self, sources: Sequence[Source]) -> None:
        """One after another; a node that is away is asked once only."""
        away: dict[str, SampanError] = {}
        for source in sources:
            if source.node in away:
                self.failed.append((source, away[source.node]))
                click.echo(f"error: {source.name}: {away[source.node]}", err=True)
                continue
            self.one(source)
            if self.broken is not None:
                raise self.broken
            if self.failed and self.failed[-1][0] is source and isinstance(self.failed[-1][1], Unavailable):
                away[source.node] = self.failed[-1][1]

    def together(self, sources: Sequence[Source], most: int) -> None:
        """All at the same time. Raises BadRequest when they are more than `most`."""
        if len(sources) > most:
            raise BadRequest(
                f"--max-log-requests: {len(sources)} logs would be followed at once, {most} are allowed: "
                f"raise it to {len(sources)}, or choose fewer"
            )
        threads = [threading.Thread(target=self.one, args=(source,), daemon=True) for source in sources]
        for thread in threads:
            thread.start()
        # In steps, so that signals are heard.
        while any(thread.is_alive() for thread in threads) and self.broken is None:
            for thread in threads:
                thread.join(0.1)
        if self.broken is not None:
            raise self.broken
