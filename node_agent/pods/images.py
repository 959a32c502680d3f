"""Images for containers: pull policy, credentials, one pull at a time per image, and backoff after failures."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from common.errors import SampanError, Unavailable
from common.tasks import Tasks
from node_agent.care.pulled import PulledImages
from node_agent.runtime.seam import ImageError, ImageSeen, RegistryAuth, Runtime
from protos.core_pb2 import Container, Pod, Secret

PULL_FIRST_SECONDS = 10.0
PULL_CAP_SECONDS = 300.0
_PULLS_AT_ONCE = 4
_ENGINE_SECONDS = 2.0
_DEFAULT_REGISTRY = "docker.io"
# What users write into pull secrets for Docker Hub.
_DEFAULT_REGISTRY_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


class ImageTrouble(SampanError):
    """An image can't be used now: Kubernetes' waiting `reason`; ask again at `until` (unix seconds)."""

    def __init__(self, reason: str, message: str, until: float) -> None:
        super().__init__(message)
        self.reason, self.until = reason, until


@dataclass
class PullBackoff:
    """When each image may be asked for again; pure. 10 s doubling to 5 min, forgotten after a success, or when
    nobody asked for ten minutes after the last pause."""

    _failures: dict[str, tuple[int, float, str]] = field(default_factory=dict)

    def failed(self, reference: str, now: float, message: str) -> float:
        """Notes a failure; the time of the next try."""
        count = self._failures.get(reference, (0, 0.0, ""))[0]
        until = now + min(PULL_CAP_SECONDS, PULL_FIRST_SECONDS * 2.0 ** min(count, 10))
        self._failures[reference] = (count + 1, until, message)
        # As in Kubernetes: what nobody has asked for in twice the longest pause begins anew.
        over = [name for name, (_, at, _) in self._failures.items() if at + 2 * PULL_CAP_SECONDS < now]
        for name in over:
            del self._failures[name]
        return until

    def succeeded(self, reference: str) -> None:
        self._failures.pop(reference, None)

    def waiting(self, reference: str, now: float) -> tuple[float, str] | None:
        """Until when, and after what answer; None when it may be tried."""
        known = self._failures.get(reference)
        return (known[1], known[2]) if known is not None and now < known[1] else None


class ImagePuller:
    """Brings images to the node for all its pods, and puts those it fetched on record."""

    def __init__(self, runtime: Runtime, now: Callable[[], float], record: PulledImages) -> None:
        self._runtime, self._now, self._record = runtime, now, record
        self._backoff = PullBackoff()
        self._pulls: dict[str, asyncio.Task[ImageTrouble | None]] = {}
        self._looks: dict[str, asyncio.Task[ImageSeen | SampanError | None]] = {}
        self._tasks = Tasks("images")
        self._room = asyncio.Semaphore(_PULLS_AT_ONCE)

    async def close(self) -> None:
        await self._tasks.close()

    async def ensure(
        self, container: Container, auths: Iterable[RegistryAuth], pulling: Callable[[], None]
    ) -> tuple[ImageSeen, bool]:
        """The image by its pull policy, and whether it was pulled; `pulling` is called when a pull begins.

        Raises ImageTrouble (and Unavailable, from the engine).
        """
        reference, policy = container.image, pull_policy(container)
        if policy != "Always":
            try:
                found = await self._look(reference)
            except ImageError as error:
                raise ImageTrouble("InvalidImageName", str(error), self._now() + PULL_CAP_SECONDS) from None
            if found is not None:
                return found, False
            if policy == "Never":
                raise ImageTrouble(
                    "ErrImageNeverPull",
                    f'Container image "{reference}" is not present with pull policy of Never: '
                    "load it onto this node, or use imagePullPolicy IfNotPresent",
                    self._now() + PULL_FIRST_SECONDS,
                )
        waiting = self._backoff.waiting(reference, self._now())
        if waiting is not None:
            until, message = waiting
            raise ImageTrouble("ImagePullBackOff", message, until)
        pulling()
        task = self._pulls.get(reference)
        if task is None:
            task = self._tasks.start(reference, self._pull(reference, tuple(auths), policy))
            task.add_done_callback(lambda _: self._pulls.pop(reference, None))
            self._pulls[reference] = task
        # Shielded: other pods may wait for the same pull.
        trouble = await asyncio.shield(task)
        if trouble is not None:
            raise trouble
        found = await self._runtime.image(reference)
        if found is None:
            raise ImageTrouble("ErrImagePull", f'"{reference}" was pulled and removed again', self._now() + 1.0)
        return found, True

    async def _look(self, reference: str) -> ImageSeen | None:
        """Pods of one template come together: the engine is asked once for all that ask while it answers."""
        task = self._looks.get(reference)
        if task is None:
            task = self._looks[reference] = self._tasks.start(f"look/{reference}", self._ask(reference))
            task.add_done_callback(lambda _: self._looks.pop(reference, None))
        # Shielded: the others wait on when one of them is cancelled.
        found = await asyncio.shield(task)
        if isinstance(found, SampanError):
            raise found
        return found

    async def _ask(self, reference: str) -> ImageSeen | SampanError | None:
        try:
            return await self._runtime.image(reference)
        except SampanError as error:
            return error

    async def _pull(self, reference: str, auths: tuple[RegistryAuth, ...], policy: str) -> ImageTrouble | None:
        candidates: list[RegistryAuth | None] = [a for a in auths if same_registry(a.server, reference)]
        last = ""
        async with self._room:
            for auth in candidates or [None]:
                try:
                    before = [image.id for image in await self._runtime.images()]
                    await self._runtime.pull(reference, auth)
                    fetched = await self._runtime.image(reference)
                except ImageError as error:
                    last = str(error)
                    continue
                except Unavailable as error:
                    # The engine's trouble, not the image's: no backoff for the image.
                    return ImageTrouble("ErrImagePull", str(error), self._now() + _ENGINE_SECONDS)
                self._backoff.succeeded(reference)
                if fetched is not None:
                    await self._record.pulled(reference, fetched.id, before)
                return None
        message = pull_failure(reference, last, policy)
        return ImageTrouble("ErrImagePull", message, self._backoff.failed(reference, self._now(), message))


def pull_failure(reference: str, answer: str, policy: str) -> str:
    """What the user reads: the image, the registry's own words, and what to do; pure."""
    advice = "check the name and tag, or push it to its registry"
    if policy == "Always":
        advice += "; an image that is only on the node needs imagePullPolicy IfNotPresent or Never"
    else:
        advice += ", or load it onto this node"
    return f'Failed to pull image "{reference}": {answer.strip()} ({advice})'


def pull_policy(container: Container) -> str:
    """The policy, or Kubernetes' default: Always for the tag latest (also where there is none), else IfNotPresent."""
    if container.imagePullPolicy:
        return container.imagePullPolicy
    if "@" in container.image:
        return "IfNotPresent"
    _, colon, tag = container.image.rpartition("/")[2].partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def registry_of(reference: str) -> str:
    """The registry's host (and port) of an image reference."""
    head, slash, _ = reference.partition("/")
    return head if slash and ("." in head or ":" in head or head == "localhost") else _DEFAULT_REGISTRY


def same_registry(server: str, reference: str) -> bool:
    """Whether credentials for `server` (host, host/path or URL) are meant for an image's registry."""
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    registry = registry_of(reference)
    return host == registry or (registry == _DEFAULT_REGISTRY and host in _DEFAULT_REGISTRY_NAMES)


def pull_secrets(pod: Pod, secrets: Mapping[tuple[str, str], Secret]) -> list[RegistryAuth]:
    """Credentials from the pod's imagePullSecrets; those missing or unreadable are left out, as in Kubernetes."""
    found: list[RegistryAuth] = []
    for ref in pod.spec.imagePullSecrets:
        secret = secrets.get((pod.metadata.namespace, ref.name))
        if secret is None:
            continue
        try:
            raw = secret.data.get(".dockerconfigjson", b"")
            config = json.loads(raw).get("auths", {}) if raw else json.loads(secret.data.get(".dockercfg", b"{}"))
            found += [_auth(str(server), entry) for server, entry in config.items()]
        except (ValueError, AttributeError, TypeError):
            continue
    return found


def _auth(server: str, entry: Mapping[str, str]) -> RegistryAuth:
    username, password = entry.get("username", ""), entry.get("password", "")
    if not username and entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return RegistryAuth(server, username, password)
