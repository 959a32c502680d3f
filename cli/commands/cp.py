"""`cp`: files and directories between this machine and a container."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import Settings, Verb, pass_settings

if TYPE_CHECKING:
    from cli.client import Client

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Place:
    """One end of a copy; `pod` is empty for this machine."""

    path: str
    pod: str = ""
    namespace: str = ""


def parse_place(text: str, namespace: str) -> Place:
    """ "POD:PATH", "NAMESPACE/POD:PATH" or a local path; one with a colon begins with / or . ; raises BadRequest."""
    from common.errors import BadRequest

    before, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        if not text:
            raise BadRequest("an empty path: name a file or a directory")
        return Place(text)
    space, slash, pod = before.rpartition("/")
    if not pod or "/" in space or (slash and not space):
        raise BadRequest(f'must be POD:PATH or NAMESPACE/POD:PATH (or a local path), got "{text}"')
    if not path.startswith("/") or posixpath.normpath(path) in ("/", "//"):
        raise BadRequest(
            f'the path in the container must be absolute and not / itself, like {pod}:/tmp/x, got "{text}"'
        )
    return Place(path, pod, space or namespace)


@click.command(
    "cp",
    cls=Verb,
    examples="""
    sampan cp site/ web:/srv/www
    sampan cp web:/var/log/app.log ./app.log
    sampan cp other/web:/etc/nginx nginx -c web
    """,
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container (default: the first).")
@pass_settings
def cp(settings: Settings, source: str, target: str, container: str) -> None:
    """Copy a file or a directory to or from a container; one of the two is POD:PATH with an absolute path.

    As with `cp -r`: into a directory that exists, else under the new name. Needs no tar in the image, and the container
    need not run. Permissions are kept. What comes into a container belongs to its runAsUser and runAsGroup, or root.
    Links that lead out of the copy are left out on the way to this machine.
    """
    from cli import podsof
    from common import kinds
    from common.errors import BadRequest

    here, there = parse_place(source, settings.namespace), parse_place(target, settings.namespace)
    if bool(here.pod) == bool(there.pod):
        raise BadRequest("one of the two must be in a container (POD:PATH), and the other here")
    remote = here if here.pod else there
    with settings.connect() as client:
        pod = client.get(kinds.POD, remote.namespace, remote.pod)
        name = container or podsof.default_container(pod)
        if here.pod:
            _fetch(client, pod, name, remote.path, Path(there.path))
        else:
            _send(client, pod, name, here.path, remote.path)


def _start(pod: Any, container: str, path: str, operation: str) -> Any:
    from protos import control_pb2 as control

    return control.CopyRequest(
        start=control.CopyStart(
            namespace=pod.metadata.namespace,
            pod=pod.metadata.name,
            container=container,
            path=path,
            operation=control.CopyStart.Operation.Value(operation),
        )
    )


def _fetch(client: Client, pod: Any, container: str, path: str, target: Path) -> None:
    import tarfile

    from cli import archive, failure
    from common.errors import SampanError

    if target.is_dir():
        target = target / posixpath.basename(posixpath.normpath(path))
    answers = client.copy(iter([_start(pod, container, path, "READ")]))
    with contextlib.closing(answers):  # type: ignore[type-var]
        stream: Any = io.BufferedReader(Pieces(answer.data for answer in answers), _PIECE)
        try:
            archive.unpack(stream, target, failure.warn)
        except tarfile.TarError as error:
            raise SampanError(f"what {pod.metadata.name} sent is not a whole archive: {error}") from None


class Pieces(io.RawIOBase):
    """Bytes that come in pieces, as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _send(client: Client, pod: Any, container: str, source: str, path: str) -> None:
    from cli import archive, failure

    local = Path(source)
    # Says at once, and in the usual words, when there is no such file.
    directory = local.stat() and local.is_dir()
    folder, name = _goal(client, pod, container, path, source, directory=directory)
    owner = owner_of(pod, container)

    def write(out: Any) -> None:
        archive.pack(local, name, out, owner, failure.warn)

    sent = Packed(write)
    try:
        for _ in client.copy(sent.requests(_start(pod, container, folder, "WRITE"))):
            pass
    except Exception:
        # What went wrong here is the cause of what went wrong there.
        if sent.failed is not None:
            raise sent.failed from None
        raise


def _goal(client: Client, pod: Any, container: str, path: str, source: str, *, directory: bool) -> tuple[str, str]:
    """The directory in the container to unpack in, and the name there."""
    from common.errors import BadRequest, NotFound

    try:
        (answer,) = client.copy(iter([_start(pod, container, path, "STAT")]))
    except NotFound as error:
        if "in the container" not in str(error):
            raise
        if path.endswith("/") and not directory:
            raise
        clean = posixpath.normpath(path)
        return posixpath.dirname(clean), posixpath.basename(clean)
    clean = posixpath.normpath(path)
    if answer.info.directory:
        content = source in (".", "..") or source.endswith(("/.", "/.."))
        return clean, "." if content and directory else os.path.basename(os.path.abspath(source))
    if directory:
        raise BadRequest(f"{path} in the container is a file: a directory can't be copied over it")
    return posixpath.dirname(clean), posixpath.basename(clean)


def owner_of(pod: Any, container: str) -> tuple[int, int]:
    """Whom files in a container should belong to: who its process runs as, as far as the pod says, else root; pure."""
    contexts = [one.securityContext for one in pod.spec.containers if one.name == container]
    contexts.append(pod.spec.securityContext)
    users = [one.runAsUser for one in contexts if one.HasField("runAsUser")]
    groups = [one.runAsGroup for one in contexts if one.HasField("runAsGroup")]
    return (int(users[0]) if users else 0), (int(groups[0]) if groups else 0)


class Packed:
    """What a thread writes as an archive, as requests; a slow master holds the thread up at a pipe."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self._write = write
        self.failed: Exception | None = None

    def requests(self, start: Any) -> Iterator[Any]:
        yield start
        reading, writing = os.pipe()

        def run() -> None:
            try:
                with os.fdopen(writing, "wb") as out:
                    self._write(out)
            except BrokenPipeError:
                # The call has ended; it says why.
                pass
            except Exception as error:  # the boundary of a thread: raised again in the main one
                self.failed = error

        thread = threading.Thread(target=run, name="tar", daemon=True)
        thread.start()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while piece := pipe.read(_PIECE):
                yield type(start)(data=piece)
        thread.join()
        if self.failed is not None:
            raise self.failed
