"""Which digest an image's tag stands for: taken from the pod where the master has fixed it, and told in the status."""

from __future__ import annotations

import json
from collections import OrderedDict

from node_agent.runtime.seam import ImageSeen
from protos.core_pb2 import Container, Pod, PodStatus

PINS = "sampan.dev/image-digests"
"""On a pod: JSON, image -> REPO@sha256:…, what its siblings run."""
_PULLABLE = "docker-pullable://"
# Images remembered, those that containers were started from last: a node may see new tags every day for years.
_KEPT = 1024


def with_digest(pod: Pod, container: Container) -> Container:
    """The container with the digest that was fixed for it in place of its tag; itself where there is none."""
    try:
        pin = json.loads(pod.metadata.annotations.get(PINS, "{}")).get(container.image)
    except (ValueError, AttributeError):
        return container
    if not isinstance(pin, str) or repository(pin) != repository(container.image):
        return container
    pinned = Container()
    pinned.CopyFrom(container)
    pinned.image = pin
    return pinned


def awaited(pod: Pod, name: str) -> bool:
    """Whether siblings wait to hear what the tag of this container's image stands for: it is the first of its set."""
    if not any(owner.controller and owner.kind == "ReplicaSet" for owner in pod.metadata.ownerReferences):
        return False
    container = next((one for one in (*pod.spec.initContainers, *pod.spec.containers) if one.name == name), None)
    return container is not None and "@" not in container.image and with_digest(pod, container) is container


def repository(reference: str) -> str:
    """An image's name without tag and digest, and without the registry that is meant where none is named."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    name = f"{head}{slash}{tail.partition(':')[0]}"
    return name.removeprefix("docker.io/").removeprefix("library/")


def digest_of(reference: str, image: ImageSeen) -> str:
    """The image's REPO@sha256:… in the registry that the reference names; empty for an image from elsewhere."""
    wanted = repository(reference)
    return next((name for name in image.names if "@" in name and repository(name) == wanted), "")


class Digests:
    """What the node has learned of the images it started containers from."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def learn(self, reference: str, image: ImageSeen) -> None:
        found = digest_of(reference, image)
        if found:
            self._known[reference, image.id] = found
            self._known.move_to_end((reference, image.id))
            if len(self._known) > _KEPT:
                # A pod that has been told of it keeps it in its status.
                self._known.popitem(last=False)

    def tell(self, status: PodStatus, before: PodStatus) -> None:
        """Puts `docker-pullable://REPO@sha256:…` where the digest is known, also to an earlier agent."""
        told = {one.containerID: one.imageID for one in (*before.initContainerStatuses, *before.containerStatuses)}
        for one in (*status.initContainerStatuses, *status.containerStatuses):
            found = self._known.get((one.image, one.imageID.removeprefix("docker://")))
            if found is not None:
                one.imageID = _PULLABLE + found
            elif one.containerID and told.get(one.containerID, "").startswith(_PULLABLE):
                one.imageID = told[one.containerID]
