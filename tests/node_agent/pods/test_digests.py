"""A tag's digest: from the registry the reference names, for the pods that were given it, and told in the status."""

from __future__ import annotations

import json

import pytest

from node_agent.pods.digests import PINS, Digests, awaited, digest_of, repository, with_digest
from node_agent.runtime.seam import ImageSeen
from protos.core_pb2 import Container, Pod, PodStatus


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("web:1", "web"),
        ("docker.io/library/web:1", "web"),
        ("registry:5000/team/web", "registry:5000/team/web"),
        ("registry:5000/team/web@sha256:aa", "registry:5000/team/web"),
    ],
)
def test_repository(reference: str, name: str) -> None:
    assert repository(reference) == name


def test_digest_of_the_named_registry_only() -> None:
    image = ImageSeen("sha256:1", ("web:1", "other/web@sha256:cc", "web@sha256:aa"), 1)
    assert digest_of("web:1", image) == "web@sha256:aa"
    assert digest_of("other/web:2", image) == "other/web@sha256:cc"
    assert digest_of("third/web:1", image) == ""


def test_a_pinned_container() -> None:
    pod = Pod()
    pod.metadata.annotations[PINS] = json.dumps({"web:1": "web@sha256:aa", "odd:1": "web@sha256:aa"})
    assert with_digest(pod, Container(name="a", image="web:1")).image == "web@sha256:aa"
    # Another tag, as after a change in place, and a digest of another repository are left alone.
    for image in ("web:2", "odd:1"):
        assert with_digest(pod, Container(name="a", image=image)).image == image
    for broken in ("[", "[]", '{"web:1": 5}'):
        pod.metadata.annotations[PINS] = broken
        assert with_digest(pod, Container(name="a", image="web:1")).image == "web:1"


def status(container: str) -> PodStatus:
    found = PodStatus()
    found.containerStatuses.add(name="a", image="web:1", imageID="docker://sha256:1", containerID=container)
    return found


def test_told_in_the_status_and_kept_over_a_restart_of_the_agent() -> None:
    digests = Digests()
    digests.learn("web:1", ImageSeen("sha256:1", ("web:1", "web@sha256:aa"), 1))
    first = status("docker://c1")
    digests.tell(first, PodStatus())
    assert first.containerStatuses[0].imageID == "docker-pullable://web@sha256:aa"
    anew = Digests()
    second, other = status("docker://c1"), status("docker://c2")
    anew.tell(second, first)
    anew.tell(other, first)
    assert second.containerStatuses[0].imageID == "docker-pullable://web@sha256:aa"
    assert other.containerStatuses[0].imageID == "docker://sha256:1"


def test_siblings_wait_for_the_first_pod_of_a_set_only() -> None:
    pod = Pod()
    pod.spec.containers.add(name="a", image="web:1")
    pod.spec.initContainers.add(name="i", image="web@sha256:aa")
    assert not awaited(pod, "a"), "nobody's pod"
    pod.metadata.ownerReferences.add(kind="ReplicaSet", name="web", controller=True)
    assert awaited(pod, "a") and not awaited(pod, "i") and not awaited(pod, "none")
    pod.metadata.annotations[PINS] = json.dumps({"web:1": "web@sha256:aa"})
    assert not awaited(pod, "a"), "its siblings know already"


def test_told_before_there_is_a_container() -> None:
    digests = Digests()
    digests.learn("web:1", ImageSeen("sha256:1", ("web:1", "web@sha256:aa"), 1))
    early = status("")
    digests.tell(early, PodStatus())
    assert early.containerStatuses[0].imageID == "docker-pullable://web@sha256:aa"


def test_a_node_that_sees_new_tags_for_years_remembers_the_last_ones() -> None:
    digests = Digests()
    for number in range(5000):
        digests.learn(f"web:{number}", ImageSeen(f"sha256:{number}", (f"web:{number}", f"web@sha256:{number}"), 1))
    assert len(digests._known) == 1024
    status = PodStatus()
    status.containerStatuses.add(image="web:4999", imageID="docker://sha256:4999")
    digests.tell(status, PodStatus())
    assert status.containerStatuses[0].imageID == "docker-pullable://web@sha256:4999"
