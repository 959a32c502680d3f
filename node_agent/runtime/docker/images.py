"""Images of a Docker Engine: what is there, fetching, and making the sandbox's own."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from common.errors import NotFound
from node_agent.runtime import sandbox_image
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.seam import ImageError, ImageSeen, Refused, RegistryAuth


class DockerImages:
    """The image part of the Docker runtime."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, reference: str) -> ImageSeen | None:
        try:
            found = await self._engine.call("GET", f"images/{reference}/json")
        except NotFound:
            return None
        except Refused as error:
            raise ImageError(f'"{reference}" is no valid image name: {error}') from None
        names = (*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ()))
        user = str((found.get("Config") or {}).get("User") or "")
        return ImageSeen(str(found["Id"]), tuple(names), int(found.get("Size") or 0), user)

    async def all(self) -> list[ImageSeen]:
        listed = await self._engine.call("GET", "images/json")
        return [
            ImageSeen(
                str(one["Id"]),
                tuple(
                    name
                    for name in (*(one.get("RepoTags") or ()), *(one.get("RepoDigests") or ()))
                    if not name.startswith("<none>")
                ),
                int(one.get("Size") or 0),
            )
            for one in listed
        ]

    async def in_use(self) -> frozenset[str]:
        containers = await self._engine.call("GET", "containers/json", params={"all": "1"})
        images = await self._engine.call("GET", "images/json", params={"all": "1"})
        parents = {str(one.get("ParentId") or "") for one in images}
        return frozenset(({str(one.get("ImageID") or "") for one in containers} | parents) - {""})

    async def remove(self, reference: str) -> None:
        try:
            await self._engine.call("DELETE", f"images/{reference}", heavy=True)
        except NotFound:
            pass

    async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
        name, tag = split_reference(reference)
        headers = {} if auth is None else {"X-Registry-Auth": registry_header(auth)}
        params = {"fromImage": name, "tag": tag}
        try:
            async with self._engine.stream(
                "POST", "images/create", params=params, headers=headers, relayed=True
            ) as body:
                async for message in _progress(body):
                    if "error" in message:
                        raise ImageError(str(message["error"]))
        except Refused as error:
            raise ImageError(str(error)) from None

    async def ensure_sandbox_image(self, architecture: str) -> None:
        """Makes the sandbox's image where the engine has none (first pod of a machine, or somebody pruned)."""
        if await self.get(sandbox_image.REFERENCE) is not None:
            return
        name, tag = split_reference(sandbox_image.REFERENCE)
        params = {
            "fromSrc": "-",
            "repo": name,
            "tag": tag,
            "message": "the sandbox of Sampan's pods",
            "changes": f'ENTRYPOINT ["{sandbox_image.PROGRAM}"]',
        }
        content = sandbox_image.root_filesystem(architecture)
        headers = {"Content-Type": "application/x-tar"}
        async with self._engine.stream("POST", "images/create", params=params, data=content, headers=headers) as body:
            async for message in _progress(body):
                if "error" in message:
                    raise Refused(f"making the sandbox image: {message['error']}")


async def _progress(body: Any) -> AsyncIterator[Mapping[str, Any]]:
    while line := await body.readline():
        if line.strip():
            yield json.loads(line)


def split_reference(reference: str) -> tuple[str, str]:
    """Name and tag (or digest) as the pull call wants them: "nginx" -> ("nginx", "latest")."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, slash, tail = reference.rpartition("/")
    base, colon, tag = tail.partition(":")
    return f"{head}{slash}{base}", tag if colon else "latest"


def registry_header(auth: RegistryAuth) -> str:
    """The value of X-Registry-Auth."""
    content = {"username": auth.username, "password": auth.password, "serveraddress": auth.server}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
