"""What a pod's plan can ask for, done through the runtime: sandboxes, containers, signals, clean-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from common.errors import Conflict, NotFound, SampanError, Unavailable
from node_agent.pods.digests import Digests, awaited, with_digest
from node_agent.pods.env import Surroundings, environment
from node_agent.pods.images import ImagePuller, pull_secrets
from node_agent.pods.ipam import NoAddress, PodAddresses
from node_agent.pods.model import (
    FAILED_MOUNT,
    FAILED_SANDBOX,
    Assignments,
    ConfigError,
    NodeContext,
    PlaceError,
    Trouble,
)
from node_agent.pods.plan import spec_hash, termination_grace
from node_agent.pods.resolv import pod_resolv_conf
from node_agent.pods.spec import container_spec, sandbox_spec
from node_agent.pods.status import timestamp
from node_agent.pods.steps import CreateSandbox, Kill, Remove, StartContainer, Terminate
from node_agent.pods.volumes import Volumes
from node_agent.probes.handlers import Handlers, Target
from node_agent.probes.health import containers_by_name
from node_agent.probes.hooks import Hooks
from node_agent.runtime.seam import Identity, Refused, Runtime
from protos.agent_pb2 import AgentEvent
from protos.core_pb2 import Container, ObjectReference, Pod

# An address somebody else holds is not tried again for this long.
_REFUSED_ADDRESS_SECONDS = 300.0
_ADDRESS_TAKEN = "address already in use"
# An engine shows a container as ended a moment before it has given its address back.
_FREEING_TRIES, _FREEING_SECONDS = 20, 0.1


class Actions:
    """Shared by all workers of a node."""

    def __init__(
        self,
        runtime: Runtime,
        node: NodeContext,
        puller: ImagePuller,
        volumes: Volumes,
        addresses: PodAddresses,
        allocatable: Callable[[], Mapping[str, str]],
        event: Callable[[AgentEvent], None],
        now: Callable[[], float],
    ) -> None:
        self._runtime, self._node, self._puller = runtime, node, puller
        self._volumes, self._addresses = volumes, addresses
        self._allocatable, self._event, self._now = allocatable, event, now
        self.handlers = Handlers(runtime)
        self.digests = Digests()
        self._hooks = Hooks(self.handlers, self.note)

    async def create_sandbox(self, pod: Pod, known: Assignments, action: CreateSandbox) -> None:
        """Makes the pod's volumes, then makes and starts its sandbox. Raises PlaceError, Unavailable."""
        ip = await self._place(pod, known)
        identity = self._identity(pod, attempt=action.attempt, ip=ip)
        mounts = await self._volumes.sandbox_mounts(pod)
        spec = sandbox_spec(pod, identity, self._node.pod_network.name, mounts, self._node.cluster_domain)
        try:
            id = await self._runtime.create_sandbox(spec)
        except (Refused, Conflict) as error:
            raise PlaceError(FAILED_SANDBOX, str(error)) from None
        try:
            await self._start_at(pod, id)
        except Refused as error:
            await self._runtime.remove(id)
            raise PlaceError(FAILED_SANDBOX, str(error)) from None
        except SampanError:
            await self._runtime.remove(id)
            raise

    async def _place(self, pod: Pod, known: Assignments) -> str:
        """The pod's volumes, and its address. Raises PlaceError, Unavailable."""
        try:
            await self._volumes.prepare(pod, known, self._around(self._address(pod)))
            return self._node.node_ip if pod.spec.hostNetwork else self._addresses.take(pod.metadata.uid, self._now())
        except ConfigError as error:
            raise PlaceError(FAILED_MOUNT, str(error)) from None
        except (Refused, Conflict, NoAddress) as error:
            raise PlaceError(FAILED_SANDBOX, str(error)) from None

    async def _start_at(self, pod: Pod, id: str) -> None:
        """Starts what has an address of its own. Raises Refused, PlaceError (it did not get the address)."""
        tries = 0
        while True:
            try:
                return await self._runtime.start(id)
            except Conflict as error:
                taken, tries = _ADDRESS_TAKEN in str(error).lower(), tries + 1
                if taken and tries < _FREEING_TRIES:
                    await asyncio.sleep(_FREEING_SECONDS)
                    continue
                if taken:
                    self._addresses.refuse(pod.metadata.uid, self._now() + _REFUSED_ADDRESS_SECONDS)
                raise PlaceError(FAILED_SANDBOX, str(error)) from None

    async def start_container(
        self, pod: Pod, known: Assignments, action: StartContainer, resolved: Callable[[str], None]
    ) -> None:
        """Pulls the image if needed, then makes and starts a container, and runs its postStart hook.

        `resolved` hears the engine's id of the image as soon as it is there, if siblings of the pod wait for that.
        Raises HookFailed with the id of a container that is to end for its hook.
        """
        container = _container(pod, action.name)
        # First what costs nothing: a missing ConfigMap shows before a long pull.
        ip = action.ip if action.sandbox else await self._place(pod, known)
        around = self._around(ip)
        env = environment(pod, container, known, around)
        mounts = await self._volumes.mounts(pod, container)
        pinned = with_digest(pod, container)
        image, pulled = await self._puller.ensure(
            pinned,
            pull_secrets(pod, known.secrets),
            lambda: self.note(pod, "Normal", "Pulling", f'Pulling image "{pinned.image}"', action.name),
        )
        if pulled:
            self.note(pod, "Normal", "Pulled", f'Successfully pulled image "{pinned.image}"', action.name)
        self.digests.learn(pinned.image, image)
        if awaited(pod, action.name):
            resolved(image.id)
        identity = self._identity(
            pod,
            container=action.name,
            attempt=action.attempt,
            crashes=action.crashes,
            spec_hash=spec_hash(container),
            ip=ip,
            sandbox=action.sandbox,
        )
        resolv_conf = pod_resolv_conf(pod, self._node.cluster_dns, self._node.cluster_domain)
        alone = None
        if not action.sandbox:
            alone = sandbox_spec(pod, identity, self._node.pod_network.name, (), self._node.cluster_domain)
        spec = container_spec(pod, pinned, identity, env, mounts, image.user, resolv_conf, alone)
        id = await self._runtime.create_container(spec)
        self.note(pod, "Normal", "Created", f"Created container {action.name}", action.name)
        try:
            await self._start_at(pod, id)
        except PlaceError:
            await self._runtime.remove(id)
            raise
        except Refused as error:
            # The engine keeps it with the reason: it counts as a container that has ended.
            self.note(pod, "Warning", "Failed", f"Error: {error}", action.name)
            return
        self.note(pod, "Normal", "Started", f"Started container {action.name}", action.name)
        await self._hooks.post_start(pod, Target(id, container, self._address(pod)))

    async def terminate(self, pod: Pod, action: Terminate) -> None:
        message = action.why if action.whole else f"Stopping container {action.name}: {action.why}"
        self.note(pod, "Normal", "Killing", message, action.name)
        container = containers_by_name(pod).get(action.name)
        if container is not None:
            await self._hooks.pre_stop(pod, Target(action.id, container, self._address(pod)), action.seconds)
        await self._runtime.terminate(action.id)

    async def kill(self, action: Kill) -> None:
        try:
            await self._runtime.kill(action.id)
        except NotFound:
            return

    async def remove(self, action: Remove) -> None:
        await self._runtime.remove(action.id)

    async def clean_up(self, uid: str) -> None:
        """After the last container: volumes, then the address."""
        await self._volumes.remove(uid)
        self._addresses.release(uid)

    async def refresh_files(self, pod: Pod, known: Assignments) -> None:
        """Brings configMap, secret and downwardAPI files up to date. Raises ConfigError, Refused, Unavailable."""
        await self._volumes.prepare(pod, known, self._around(self._address(pod)))

    def troubled(self, pod: Pod, name: str, trouble: Trouble) -> None:
        """The event for a start that did not work out."""
        if trouble.reason in (FAILED_MOUNT, FAILED_SANDBOX):
            self.note(pod, "Warning", trouble.reason, trouble.message)
        elif not name:
            self.note(pod, "Warning", FAILED_SANDBOX, trouble.message)
        elif trouble.reason == "ImagePullBackOff":
            self.note(pod, "Normal", "BackOff", trouble.message, name)
        else:
            self.note(pod, "Warning", "Failed", trouble.message, name)

    def note(self, pod: Pod, type: str, reason: str, message: str, container: str = "") -> None:
        """Sends an Event about the pod (or one of its containers) on its way."""
        meta = pod.metadata
        involved = ObjectReference(kind="Pod", apiVersion="v1", namespace=meta.namespace, name=meta.name, uid=meta.uid)
        if container:
            init = any(one.name == container for one in pod.spec.initContainers)
            involved.fieldPath = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        time = timestamp(self._now())
        self._event(AgentEvent(involved=involved, type=type, reason=reason, message=message, time=time))

    def _address(self, pod: Pod) -> str:
        """The node's own for a pod in its network; empty for one that has none yet."""
        return self._node.node_ip if pod.spec.hostNetwork else self._addresses.get(pod.metadata.uid)

    def _around(self, pod_ip: str) -> Surroundings:
        return Surroundings(self._node.node, self._node.node_ip, pod_ip, self._allocatable())

    def _identity(
        self,
        pod: Pod,
        *,
        container: str = "",
        attempt: int,
        crashes: int = 0,
        spec_hash: str = "",
        ip: str,
        sandbox: str = "",
    ) -> Identity:
        meta = pod.metadata
        return Identity(
            cluster=self._node.cluster,
            node=self._node.node,
            namespace=meta.namespace,
            pod=meta.name,
            uid=meta.uid,
            container=container,
            attempt=attempt,
            crashes=crashes,
            spec_hash=spec_hash,
            ip=ip,
            sandbox=sandbox,
            grace=termination_grace(pod),
        )


def _container(pod: Pod, name: str) -> Container:
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        if container.name == name:
            return container
    raise Unavailable(f"container {name} is no longer in the pod")
