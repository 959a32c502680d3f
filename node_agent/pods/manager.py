"""All pods of a node: one worker each, adoption of what runs already, clean-up of what nobody wants."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from ipaddress import IPv4Address

import structlog

from common.backoff import Backoff
from common.errors import NotFound, SampanError, Unavailable
from common.tasks import Tasks
from node_agent.care.keeper import NodeCare
from node_agent.care.pulled import PulledImages
from node_agent.pods.actions import Actions
from node_agent.pods.images import ImagePuller
from node_agent.pods.ipam import PodAddresses
from node_agent.pods.logs import log_options, log_target
from node_agent.pods.measure import engine_down, measure
from node_agent.pods.model import Assignments, NodeContext, NodeMeasure
from node_agent.pods.plan import termination_grace
from node_agent.pods.status import timestamp
from node_agent.pods.volumes import Volumes
from node_agent.pods.worker import PodWorker
from node_agent.runtime.seam import Identity, Runtime, Seen, State
from node_agent.storage import Storage
from protos.agent_pb2 import AgentEvent, LogsCommand, PodReport
from protos.core_pb2 import ObjectReference, Pod, PodStatus

__all__ = ["Assignments", "NodeContext", "NodeMeasure", "PodManager"]

log = structlog.get_logger(__name__)

# What a crash of the agent left on disk is in nobody's way: no hurry.
_SWEEP_SECONDS = 60.0


class PodManager:
    """Runs the pods it is assigned. `report` and `event` are called from the event loop and must not block."""

    def __init__(
        self,
        runtime: Runtime,
        node: NodeContext,
        report: Callable[[PodReport], None],
        event: Callable[[AgentEvent], None],
        storage: Storage,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._runtime, self._node, self._report, self._now = runtime, node, report, now
        network = node.pod_network
        self._addresses = PodAddresses(IPv4Address(network.first), IPv4Address(network.last))
        self._volumes = Volumes(runtime, node)
        images = PulledImages(storage, now)
        self._puller = ImagePuller(runtime, now, images)
        self._actions = Actions(
            runtime, node, self._puller, self._volumes, self._addresses, self._allocatable, event, now
        )
        self._workers: dict[str, PodWorker] = {}
        self._care = NodeCare(
            runtime, node.care, images, self._workers.values, self._note, self._actions.note, node.data_dir, now
        )
        self._event = event
        self._tasks = Tasks("pods")
        self._assignments: Assignments | None = None
        self._adopted = False
        # Pods of which something was there when this agent began.
        self._found: frozenset[str] = frozenset()
        self._relist = asyncio.Event()
        self._measured: NodeMeasure | None = None
        self._cpu: tuple[float, float] | None = None

    async def run(self) -> None:
        """Owns the workers; adopts what runs already. Ends only when cancelled; pods run on."""
        try:
            await self._adopt()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_hints(), name="pods/hints")
                group.create_task(self._relist_loop(), name="pods/relist")
                group.create_task(self._care.run(), name="pods/care")
        finally:
            await self._tasks.close()
            await self._puller.close()

    def assign(self, assignments: Assignments) -> None:
        """The complete set of what this node shall run; pods that are not in it are stopped and removed."""
        before, self._assignments = self._assignments, assignments
        if self._adopted:
            self._reconcile(before)

    def statuses(self) -> list[PodReport]:
        """The last report of every pod, also of those that are gone and still assigned."""
        return [worker.last_report for worker in self._workers.values() if worker.last_report is not None]

    async def logs(self, command: LogsCommand) -> AsyncIterator[bytes]:
        """A container's output. Raises NotFound, BadRequest with Kubernetes' messages; Unavailable."""
        worker = self._workers.get(command.pod_uid)
        if worker is None:
            raise NotFound(f"pod {command.pod_uid} is not on node {self._node.node}")
        seen = await self._runtime.containers(command.pod_uid)
        status = worker.last_report.status if worker.last_report is not None else PodStatus()
        target = log_target(command, worker.pod, seen, status)
        async for piece in self._runtime.logs(target.id, log_options(command, self._now())):
            yield piece

    async def measure(self) -> NodeMeasure:
        """The node's figures; not Ready when the engine does not answer (never raises for that)."""
        now = self._now()
        before = self._measured.conditions if self._measured is not None else ()
        try:
            machine, images = await self._runtime.machine(), await self._runtime.images()
        except SampanError as error:
            self._measured = engine_down(self._measured, str(error), before, now)
            return self._measured
        used = 0.0
        if self._cpu is not None and now > self._cpu[0]:
            used = (machine.cpu_seconds - self._cpu[1]) / (now - self._cpu[0])
        self._cpu = (now, machine.cpu_seconds)
        self._measured = measure(
            machine,
            images,
            cpu_cores_used=used,
            max_pods=min(self._node.max_pods, self._addresses.size),
            overrides=self._node.capacity,
            pressures=await self._care.look(machine),
            before=before,
            now=now,
        )
        return self._measured

    def _note(self, type: str, reason: str, message: str) -> None:
        """Sends an Event about the node on its way."""
        name = self._node.node
        involved = ObjectReference(kind="Node", apiVersion="v1", name=name, uid=name)
        time = timestamp(self._now())
        self._event(AgentEvent(involved=involved, type=type, reason=reason, message=message, time=time))

    def _allocatable(self) -> Mapping[str, str]:
        return self._measured.allocatable if self._measured is not None else {}

    async def _adopt(self) -> None:
        """Books the addresses of what runs before any new pod gets one."""
        delays = Backoff(first=0.2, cap=5.0)
        while True:
            try:
                seen = await self._runtime.containers()
                await self.measure()
                break
            except Unavailable as error:
                log.warning("pods.engine_unavailable", error=str(error))
                await asyncio.sleep(next(delays))
        holders = [one for one in seen if one.identity.ip and (not one.name or one.identity.alone)]
        # What runs has its address; what stood alone and is down keeps it, if nobody has got it meanwhile.
        down = [one for one in holders if one.name and one.state is not State.RUNNING]
        for one in (*(one for one in holders if one not in down), *sorted(down, key=lambda one: -one.created_at)):
            if self._addresses.get(one.uid):
                continue
            if not self._addresses.holds(one.identity.ip):
                await self._renew_joined(one)
            elif not self._addresses.adopt(one.uid, one.identity.ip) and one.state is State.RUNNING:
                log.warning("pods.address_not_adopted", uid=one.uid, ip=one.identity.ip)
        self._adopted, self._found = True, frozenset(one.uid for one in seen)
        log.info("pods.adopted", pods=len(self._found), containers=len(seen))
        if self._assignments is not None:
            self._reconcile(None)

    async def _renew_joined(self, sandbox: Seen) -> None:
        """A pod that joined the network of this agent's container has lost it when that container began anew."""
        try:
            own = await self._runtime.self_container()
            if own is not None and sandbox.state is State.RUNNING and sandbox.started_at < own.started_at:
                log.info("pods.network_lost", uid=sandbox.uid, name=sandbox.identity.pod)
                await self._runtime.kill(sandbox.id)
        except SampanError as error:
            log.warning("pods.network_not_renewed", uid=sandbox.uid, error=str(error))

    def _reconcile(self, before: Assignments | None) -> None:
        """Workers for what is assigned, endings for what is not any more."""
        wanted = self._assignments
        if wanted is None:
            return
        refers_anew = before is None or (before.configmaps != wanted.configmaps or before.secrets != wanted.secrets)
        for uid, pod in wanted.pods.items():
            worker = self._workers.get(uid)
            if worker is None:
                # Not of those an earlier agent may have begun, up to its last moment.
                new = before is not None and uid not in self._found and not pod.status.containerStatuses
                self._begin(pod, held=uid in wanted.held, new=new)
            else:
                worker.update(pod, refers_anew=refers_anew, held=uid in wanted.held)
        for uid, worker in list(self._workers.items()):
            if uid in wanted.pods:
                continue
            if worker.gone:
                del self._workers[uid]
            elif not worker.pod.metadata.HasField("deletionTimestamp"):
                worker.update(self._ending(worker.pod))
        if before is None or not before.pods.keys() <= wanted.pods.keys():
            # Who begins here looks for himself; of what is not wanted any more something may be left.
            self._relist.set()

    def _begin(self, pod: Pod, *, held: bool = False, new: bool = False) -> None:
        worker = PodWorker(
            pod,
            actions=self._actions,
            runtime=self._runtime,
            addresses=self._addresses,
            assignments=lambda: self._assignments or Assignments(),
            report=self._report,
            node_ip=self._node.node_ip,
            now=self._now,
            new=new,
        )
        worker.hold(pod, held)
        self._workers[pod.metadata.uid] = worker
        self._tasks.start(f"{pod.metadata.namespace}/{pod.metadata.name}", self._serve(worker))

    async def _serve(self, worker: PodWorker) -> None:
        await worker.run()
        uid = worker.pod.metadata.uid
        if self._assignments is not None and uid not in self._assignments.pods:
            self._workers.pop(uid, None)

    def _ending(self, pod: Pod) -> Pod:
        """The pod as if it had been deleted now, with its own grace."""
        ending = Pod()
        ending.CopyFrom(pod)
        ending.metadata.deletionGracePeriodSeconds = termination_grace(pod)
        ending.metadata.deletionTimestamp.CopyFrom(timestamp(self._now()))
        return ending

    def _orphan(self, identity: Identity) -> Pod:
        """A pod of which only its containers are known: enough to end it."""
        pod = Pod()
        meta = pod.metadata
        meta.uid, meta.namespace, meta.name = identity.uid, identity.namespace, identity.pod
        pod.spec.terminationGracePeriodSeconds = identity.grace
        return self._ending(pod)

    async def _follow_hints(self) -> None:
        async for hint in self._runtime.hints():
            if not hint.uid:
                self._relist.set()
                continue
            worker = self._workers.get(hint.uid)
            if worker is not None:
                worker.hint(hint.what)
            elif hint.what == "start":
                self._relist.set()

    async def _relist_loop(self) -> None:
        next_sweep = 0.0
        while True:
            try:
                async with asyncio.timeout(self._node.relist_seconds):
                    await self._relist.wait()
            except TimeoutError:
                pass
            self._relist.clear()
            try:
                self._compare(await self._runtime.containers())
                if self._assignments is not None and self._now() >= next_sweep:
                    next_sweep = self._now() + _SWEEP_SECONDS
                    await self._volumes.remove_strays({*self._workers, *self._assignments.pods})
            except SampanError as error:
                log.warning("pods.relist_failed", error=str(error))
            except Exception:
                # The loop's boundary: the next look may go well.
                log.exception("pods.relist_failed")

    def _compare(self, seen: Iterable[Seen]) -> None:
        """Wakes the workers whose picture differs from the engine's; ends pods nobody assigned."""
        by_uid: dict[str, list[Seen]] = defaultdict(list)
        for one in seen:
            by_uid[one.uid].append(one)
        for uid, worker in self._workers.items():
            if _picture(worker.seen) != _picture(by_uid.get(uid, ())):
                worker.poke()
        if self._assignments is None:
            # Not known yet what is wanted: everything runs on.
            return
        for uid, containers in by_uid.items():
            if uid not in self._workers and uid not in self._assignments.pods:
                log.info("pods.orphan", uid=uid, name=containers[0].identity.pod)
                self._begin(self._orphan(containers[0].identity))


def _picture(seen: Iterable[Seen]) -> set[tuple[str, str, float]]:
    """What has been made and not started is somebody's work under way, who looks again when that has ended."""
    return {(one.id, one.state.value, one.started_at) for one in seen if one.state is not State.CREATED}
