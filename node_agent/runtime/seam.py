"""The seam between pods and whatever runs containers: plain data, our own errors and one Protocol.

Two implementations pass the same tests (tests/contract): `node_agent.runtime.docker` and
`node_agent.runtime.simulated`. Times are unix seconds (float; 0 means never), sizes are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from common.errors import SampanError
from node_agent.network.seam import NetworkRuntime
from node_agent.runtime.stdio import StdioRuntime


class ImageError(SampanError):
    """An image could not be had; `str()` has the registry's (or engine's) own answer."""

    reason = "ErrImagePull"


class Refused(SampanError):
    """The engine understood and said no: a bad option, a command that is not in the image."""

    reason = "RuntimeRefused"


class State(enum.Enum):
    """Where a container is in its one life; it never goes back (a restart is a new container)."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Identity:
    """Whose container this is; everything an agent needs to adopt it after its own restart.

    `container` is empty for a sandbox. `attempt` counts from 0 in a pod; `crashes` is how many attempts in a
    row had died young before this one; `grace` is the pod's termination grace in seconds. A container without a
    `sandbox` (id) stands alone: it has the pod's address by itself.
    """

    cluster: str
    node: str
    namespace: str
    pod: str
    uid: str
    container: str = ""
    attempt: int = 0
    crashes: int = 0
    spec_hash: str = ""
    ip: str = ""
    sandbox: str = ""
    grace: int = 30

    @property
    def kind(self) -> Literal["sandbox", "container"]:
        return "container" if self.container else "sandbox"

    @property
    def alone(self) -> bool:
        """Whether it is a container that is its own sandbox."""
        return bool(self.container) and not self.sandbox


@dataclass(frozen=True)
class Seen:
    """One container as the engine shows it. `error` is the engine's word on a start that failed.

    `message` is what it left behind for people when it ended; the pods' room puts it in. `unsettled`: the engine has
    told of its end and does not show all of it yet (whether it was short of memory, say): look again soon.
    """

    id: str
    identity: Identity
    state: State
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    image: str = ""
    image_id: str = ""
    message: str = ""
    unsettled: bool = False

    @property
    def uid(self) -> str:
        return self.identity.uid

    @property
    def name(self) -> str:
        return self.identity.container

    @property
    def attempt(self) -> int:
        return self.identity.attempt


@dataclass(frozen=True)
class Mount:
    """One mount: a bind of a path on the engine's machine, or a named volume of the engine.

    `create` lets the engine make a missing directory at `source`; without it a missing source is Refused.
    """

    kind: Literal["bind", "volume"]
    source: str
    target: str
    read_only: bool = False
    create: bool = False


@dataclass(frozen=True)
class SandboxSpec:
    """The container that holds a pod's network, IPC and memory volumes. `hosts` are (ip, name) pairs.

    `network` is empty for a pod that lives in the node's own network.
    """

    identity: Identity
    hostname: str
    network: str
    hosts: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    # What follows the hostname in the hosts file; empty: nothing.
    domainname: str = ""


@dataclass(frozen=True)
class Limits:
    """cgroup limits: 0 leaves one out. cpu_quota is microseconds of each 100,000; memory is bytes."""

    cpu_quota: int = 0
    cpu_shares: int = 0
    memory: int = 0


@dataclass(frozen=True)
class ContainerSpec:
    """A container inside the sandbox `identity.sandbox`, or with `alone` set one that is its own sandbox.

    Empty command/args leave the image's own.
    """

    identity: Identity
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    user: str = ""
    tty: bool = False
    stdin: bool = False
    limits: Limits = field(default_factory=Limits)
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    # The text of its resolv.conf; empty: the engine's own.
    resolv_conf: str = ""
    # The signal that asks it to end, like SIGQUIT; empty: the image's.
    stop_signal: str = ""
    # Where in it the file for its termination message lies; empty: nowhere.
    message_path: str = ""
    # Its stdin closes when the first attach ends.
    stdin_once: bool = False
    # What its pod's sandbox would be, had it one: the container has that place on the network (not the mounts).
    alone: SandboxSpec | None = None


@dataclass(frozen=True)
class ImageSeen:
    """An image on the node: `names` are tags and digests, `user` its default user (may be empty)."""

    id: str
    names: tuple[str, ...]
    size: int = 0
    user: str = ""


@dataclass(frozen=True)
class RegistryAuth:
    """Credentials for one registry."""

    server: str
    username: str
    password: str


@dataclass(frozen=True)
class LogOptions:
    """What to read: `tail` lines from the end (None: all), from `since` (unix seconds, 0: the start)."""

    follow: bool = False
    tail: int | None = None
    since: float = 0.0
    timestamps: bool = False


@dataclass(frozen=True)
class Hint:
    """Something may have changed for pod `uid` (empty: for any pod). Never the only news: we relist too."""

    uid: str
    what: str


@dataclass(frozen=True)
class Usage:
    """What one container uses now: cpu seconds since its start, memory bytes without file cache."""

    cpu_seconds: float
    memory: int


@dataclass(frozen=True)
class Machine:
    """What the engine's machine has and uses. `cpu_seconds` is busy time since boot, over all cores."""

    runtime_version: str
    kernel: str
    os_image: str
    architecture: str
    cpus: int
    memory: int
    memory_available: int
    cpu_seconds: float
    disk: int
    disk_free: int
    pids: int
    pids_max: int
    # The agent's own file system, and that of images and containers; 0: not known, or without a fixed number.
    inodes: int = 0
    inodes_free: int = 0
    image_disk: int = 0
    image_disk_free: int = 0
    image_inodes: int = 0
    image_inodes_free: int = 0


class Runtime(NetworkRuntime, StdioRuntime, Protocol):
    """Containers of one node (one cluster and node name); never shows or touches anyone else's.

    The calls about networks are in NetworkRuntime, those about a container's inside in StdioRuntime.

    Every call may raise Unavailable (the engine does not answer: retry), and where an id or name is given
    NotFound. All calls are bounded in time, except `pull` and the iterators, which end when cancelled.
    """

    async def containers(self, uid: str = "") -> list[Seen]:
        """All sandboxes and containers of the node, or of one pod, dead ones too."""

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        """Makes (does not start) a sandbox; its id. Raises Conflict (name or address in use), Refused."""

    async def create_container(self, spec: ContainerSpec) -> str:
        """Makes (does not start) a container; its id. Raises Conflict, Refused, ImageError (image not there).

        The address of one that stands alone may be found in use (Conflict or Refused) only when it is started.
        """

    async def start(self, id: str) -> None:
        """Starts it. Raises Refused with the engine's reason; the container then shows as EXITED with `error`.

        Raises Conflict when its address (or network) can't be had: it may be started again later.
        """

    async def terminate(self, id: str) -> None:
        """Asks it to end with its stop signal (its image's, or SIGTERM). No error when it has ended already."""

    async def kill(self, id: str) -> None:
        """SIGKILL. No error when it has ended already."""

    async def remove(self, id: str) -> None:
        """Kills and removes it with its anonymous volumes. No error when it is gone already."""

    async def image(self, reference: str) -> ImageSeen | None:
        """The image if the node has it; never asks a registry."""

    async def images(self) -> list[ImageSeen]: ...

    async def images_in_use(self) -> frozenset[str]:
        """Ids of images that any container of the engine, also somebody else's, or another image is made of."""

    async def remove_image(self, reference: str) -> None:
        """Takes a name from an image, and with its last one the image. Never by force. No error when it is gone.

        Raises Conflict while a container uses it.
        """

    async def pull(self, reference: str, auth: RegistryAuth | None) -> None:
        """Fetches an image from its registry. Raises ImageError with the registry's answer."""

    def logs(self, id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Output of a container, stdout and stderr together in the order written."""

    async def usage(self, id: str) -> Usage: ...

    async def disk_usage(self, id: str) -> int:
        """Bytes that a container has written into its own layer, and to its log where that can be read. Slow."""

    def hints(self) -> AsyncIterator[Hint]:
        """Endless; survives the engine's restarts (an empty uid after each gap)."""

    async def machine(self) -> Machine: ...

    async def create_memory_volume(self, name: str, size: int) -> None:
        """A tmpfs volume (size 0: the engine's default). It exists while a container mounts it. Idempotent."""

    async def remove_volume(self, name: str) -> None:
        """No error when it is gone. Raises Conflict while in use."""

    async def volumes(self) -> list[str]:
        """Names of this node's volumes."""

    async def host_path(self, path: str) -> str:
        """Where a path of the agent's lies on the engine's machine (the same, unless the agent is contained)."""

    async def close(self) -> None: ...
