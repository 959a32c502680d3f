"""Files of a container over Docker's archive calls: they need no program in it, and it need not run."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

from common.errors import NotFound
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.seam import Refused
from node_agent.runtime.stdio import PathSeen

_CHUNK = 64 * 1024
_STAT_HEADER = "X-Docker-Container-Path-Stat"
# Go's os.FileMode: these bits, and below them the permission bits as everywhere.
_GO_DIRECTORY, _GO_SYMLINK = 1 << 31, 1 << 27
_GO_SPECIAL = ((1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000))


async def path_seen(engine: Engine, id: str, path: str) -> PathSeen:
    """`StdioRuntime.path_seen` on one engine."""
    seen, target = await _look(engine, id, path)
    return (await _look(engine, id, target))[0] if target else seen


async def read_files(engine: Engine, id: str, path: str) -> AsyncIterator[bytes]:
    """`StdioRuntime.read_files` on one engine."""
    _, target = await _look(engine, id, path)
    async with engine.answer("GET", f"containers/{id}/archive", params={"path": target or path}) as response:
        while piece := await response.content.read(_CHUNK):
            yield piece


async def write_files(engine: Engine, id: str, directory: str, archive: AsyncIterator[bytes]) -> None:
    """`StdioRuntime.write_files` on one engine."""
    # The engine would say no while it is still being sent the archive, which breaks the connection.
    if not (await path_seen(engine, id, directory)).directory:
        raise Refused(f"{directory} is not a directory")
    # A file never replaces a directory, nor a directory a file.
    params = {"path": directory, "noOverwriteDirNonDir": "1"}
    headers = {"Content-Type": "application/x-tar"}
    url = f"containers/{id}/archive"
    async with engine.answer("PUT", url, params=params, data=archive, headers=headers) as response:
        await response.read()


async def _look(engine: Engine, id: str, path: str) -> tuple[PathSeen, str]:
    """The path itself, and where it leads when it is a symbolic link (else empty)."""
    try:
        # Not HEAD: its errors have no text. The archive that would follow is not read.
        async with engine.answer("GET", f"containers/{id}/archive", params={"path": path}) as response:
            return read_stat(response.headers.get(_STAT_HEADER, ""))
    except NotFound as error:
        if "no such container" in str(error).lower():
            raise
        raise NotFound(f"{path}: no such file or directory in the container") from None


def read_stat(header: str) -> tuple[PathSeen, str]:
    """Docker's description of a path, and the target of a symbolic link; pure."""
    found = json.loads(base64.b64decode(header))
    go = int(found.get("mode") or 0)
    mode = (go & 0o777) | sum(bit for flag, bit in _GO_SPECIAL if go & flag)
    seen = PathSeen(str(found.get("name") or ""), int(found.get("size") or 0), mode, bool(go & _GO_DIRECTORY))
    return seen, str(found.get("linkTarget") or "") if go & _GO_SYMLINK else ""
