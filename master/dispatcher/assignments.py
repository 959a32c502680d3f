"""What each node is to run, kept up to date change by change: its pods and the ConfigMaps and Secrets they use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from common.frames import FrameWriter
from master.dispatcher.references import Reference, references
from protos import agent_pb2, core_pb2

Writer = FrameWriter[Any]

HISTORY = 500
"""Changes kept per node: a session that is further behind gets a snapshot, which is as small. With more, a node would
hold the keys of all the pods it ever had, of thousands of nodes in one master."""


def _size(value: Message) -> int:
    return value.ByteSize() + 64


def same_for_agent(old: core_pb2.Pod, new: core_pb2.Pod) -> bool:
    """True when nothing changed that an agent acts on: a status that it reported itself comes back unsent."""
    was, now = old.metadata, new.metadata
    return (
        was.deletionTimestamp == now.deletionTimestamp
        and was.deletionGracePeriodSeconds == now.deletionGracePeriodSeconds
        and was.labels == now.labels
        and was.annotations == now.annotations
        and old.spec == new.spec
    )


class AssignmentIndex:
    """A FrameWriter per node, fed with objects; `touched` collects the nodes whose state changed."""

    def __init__(self) -> None:
        self._writers: dict[str, Writer] = {}
        self._pods: dict[tuple[str, str], core_pb2.Pod] = {}
        self._objects: dict[Reference, Any] = {}
        # Which pods (by uid) of which node need an object: the item goes when the last of them does.
        self._needs: dict[Reference, dict[str, set[str]]] = {}
        # Terminating pods (uid) that may be stopped.
        self._released: set[str] = set()
        self.touched: set[str] = set()

    def item(self, key: str, value: Any) -> agent_pb2.Item:
        """One item's message."""
        if isinstance(value, core_pb2.Pod):
            return agent_pb2.Item(key=key, pod=value, released=value.metadata.uid in self._released)
        if isinstance(value, core_pb2.ConfigMap):
            return agent_pb2.Item(key=key, configmap=value)
        return agent_pb2.Item(key=key, secret=value)

    def release(self, namespace: str, name: str, uid: str) -> None:
        """The pod's node may stop it from now on."""
        pod = self._pods.get((namespace, name))
        if pod is None or pod.metadata.uid != uid or uid in self._released or not pod.spec.nodeName:
            return
        self._released.add(uid)
        self.writer(pod.spec.nodeName).put(f"pod/{uid}", pod)
        self.touched.add(pod.spec.nodeName)

    def writer(self, node: str) -> Writer:
        """The node's writer; an empty one for a node that has no pods."""
        writer = self._writers.get(node)
        if writer is None:
            writer = self._writers[node] = FrameWriter(_size, history=HISTORY)
        return writer

    def pods(self, node: str) -> list[core_pb2.Pod]:
        """The pods bound to a node."""
        if node not in self._writers:
            return []
        return [value for value in self._writers[node].items.values() if isinstance(value, core_pb2.Pod)]

    def nodes(self) -> list[str]:
        """The nodes that have a writer."""
        return list(self._writers)

    def forget(self, node: str) -> None:
        """Drops the writer of a node that is gone, unless it has pods; `touched` says when the last of them went."""
        if node in self._writers and not self._writers[node].items:
            del self._writers[node]

    def reset(self, objects: Iterable[Any]) -> None:
        """Makes `objects` everything there is, as after a watch that fell behind."""
        pods: dict[tuple[str, str], core_pb2.Pod] = {}
        others: dict[Reference, Any] = {}
        for obj in objects:
            if isinstance(obj, core_pb2.Pod):
                pods[obj.metadata.namespace, obj.metadata.name] = obj
            elif isinstance(obj, core_pb2.ConfigMap | core_pb2.Secret):
                others[_key(obj)] = obj
        for gone in [self._pods[key] for key in self._pods if key not in pods]:
            self.remove_pod(gone)
        for key in [key for key in self._objects if key not in others]:
            self.remove_object(self._objects[key])
        for obj in others.values():
            self.put_object(obj)
        for pod in pods.values():
            self.put_pod(pod)

    def put_pod(self, pod: core_pb2.Pod) -> None:
        """A pod was added or changed."""
        name = (pod.metadata.namespace, pod.metadata.name)
        old = self._pods.get(name)
        self._pods[name] = pod
        if old is not None and (old.metadata.uid != pod.metadata.uid or old.spec.nodeName != pod.spec.nodeName):
            self._unassign(old)
            old = None
        node = pod.spec.nodeName
        if not node:
            return
        writer = self.writer(node)
        key = f"pod/{pod.metadata.uid}"
        if old is not None and same_for_agent(old, pod):
            # The status goes along the next time the pod does; a new stream must not carry an old one.
            writer.refresh(key, pod)
            return
        wanted = references(pod)
        for reference in (references(old) if old is not None else frozenset()) - wanted:
            self._release(node, pod.metadata.uid, reference)
        for reference in wanted:
            self._need(node, pod.metadata.uid, reference)
        writer.put(key, pod)
        self.touched.add(node)

    def remove_pod(self, pod: core_pb2.Pod) -> None:
        """A pod's object is gone."""
        old = self._pods.pop((pod.metadata.namespace, pod.metadata.name), None)
        if old is not None:
            self._unassign(old)

    def put_object(self, obj: core_pb2.ConfigMap | core_pb2.Secret) -> None:
        """A ConfigMap or Secret was added or changed."""
        key = _key(obj)
        if self._objects.get(key) == obj:
            return
        self._objects[key] = obj
        for node in self._needs.get(key, ()):
            self.writer(node).put(_item_key(key), obj)
            self.touched.add(node)

    def remove_object(self, obj: core_pb2.ConfigMap | core_pb2.Secret) -> None:
        """A ConfigMap or Secret is gone."""
        key = _key(obj)
        self._objects.pop(key, None)
        for node in self._needs.get(key, ()):
            self.writer(node).remove(_item_key(key))
            self.touched.add(node)

    def _need(self, node: str, uid: str, reference: Reference) -> None:
        pods = self._needs.setdefault(reference, {}).setdefault(node, set())
        first = not pods
        pods.add(uid)
        # Before the pod in the same frame, so that the agent finds what the pod needs.
        if first and reference in self._objects:
            self.writer(node).put(_item_key(reference), self._objects[reference])

    def _release(self, node: str, uid: str, reference: Reference) -> None:
        nodes = self._needs.get(reference, {})
        pods = nodes.get(node, set())
        pods.discard(uid)
        if pods:
            return
        nodes.pop(node, None)
        if not nodes:
            self._needs.pop(reference, None)
        self.writer(node).remove(_item_key(reference))

    def _unassign(self, pod: core_pb2.Pod) -> None:
        self._released.discard(pod.metadata.uid)
        node = pod.spec.nodeName
        if not node:
            return
        for reference in references(pod):
            self._release(node, pod.metadata.uid, reference)
        self.writer(node).remove(f"pod/{pod.metadata.uid}")
        self.touched.add(node)


def _key(obj: core_pb2.ConfigMap | core_pb2.Secret) -> Reference:
    kind = "ConfigMap" if isinstance(obj, core_pb2.ConfigMap) else "Secret"
    return kind, obj.metadata.namespace, obj.metadata.name


def _item_key(reference: Reference) -> str:
    kind, namespace, name = reference
    return f"{kind.lower()}/{namespace}/{name}"
