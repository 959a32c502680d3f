"""Who goes first, and what they read about it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.care.pressure import Met, Reading
from node_agent.care.ranking import Candidate, eviction_message, pod_request, ranked
from node_agent.care.settings import parse_thresholds
from protos.core_pb2 import Pod

MIB = 1024 * 1024


def candidate(uid: str, used: int, request: int = 0, priority: int = 0, *, daemon: bool = False) -> Candidate:
    pod = Pod()
    pod.metadata.uid = pod.metadata.name = uid
    pod.spec.priority = priority
    container = pod.spec.containers.add(name="c")
    if request:
        container.resources.requests["memory"].value = str(request)
    if daemon:
        pod.metadata.ownerReferences.add(kind="DaemonSet", name="d", controller=True)
    return Candidate(pod, {"c": used}, pod_request(pod, "memory"))


def order(*candidates: Candidate) -> list[str]:
    return [one.pod.metadata.uid for one in ranked(candidates)]


def test_kubernetes_order() -> None:
    assert order(
        candidate("within", 90, 100),
        candidate("above-important", 500, 100, priority=10),
        candidate("above-a-little", 150, 100),
        candidate("above-a-lot", 400, 100),
    ) == ["above-a-lot", "above-a-little", "above-important", "within"]


def test_daemons_and_critical_pods_come_last() -> None:
    assert order(
        candidate("critical", 900, priority=2_000_001_000),
        candidate("daemon", 800, daemon=True),
        candidate("within", 10, 100),
    ) == ["within", "daemon", "critical"]


_CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        st.integers(0, 500),
        st.integers(0, 500),
        st.sampled_from([-5, 0, 10, 2_000_000_000, 2_000_001_000]),
        daemon=st.booleans(),
    ),
    max_size=12,
)


@given(_CANDIDATES, st.randoms())
def test_the_order_is_one_and_spares_who_keeps_to_its_request(candidates: list[Candidate], random: object) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = ranked(candidates)
    assert order(*candidates) == order(*shuffled)
    ordinary = [one for one in found if one.pod.spec.priority < 2_000_000_000 and not one.pod.metadata.ownerReferences]
    assert found[: len(ordinary)] == ordinary
    above = [one.usage > one.request for one in ordinary]
    assert above == sorted(above, reverse=True)


def test_requests_are_those_of_kubernetes() -> None:
    one = candidate("a", 0, 100)
    one.pod.spec.containers.add(name="limited").resources.limits["memory"].value = "50"
    one.pod.spec.initContainers.add(name="init").resources.requests["memory"].value = "400"
    assert pod_request(one.pod, "memory") == 400
    one.pod.spec.initContainers[0].restartPolicy = "Always"
    assert pod_request(one.pod, "memory") == 550
    assert pod_request(one.pod, "ephemeral-storage") == 0


def test_the_message_names_what_was_short_and_who_used_it() -> None:
    (threshold,) = parse_thresholds("memory.available<100Mi")
    met = Met(threshold, Reading(60 * MIB, 1000 * MIB))
    assert eviction_message(met, candidate("a", 300 * MIB, 200 * MIB)) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. "
        "Container c was using 300Mi, request is 200Mi, has larger consumption of memory."
    )
