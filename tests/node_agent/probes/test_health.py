"""Health of containers, with and without probes."""

from __future__ import annotations

from node_agent.probes.health import NOT_RUNNING, Doom, Health, health_of, is_sidecar, reported_health
from node_agent.runtime.seam import State
from protos.core_pb2 import Container, PodStatus
from tests.node_agent.pods.build import seen
from tests.node_agent.probes.build import asks, container


def test_only_what_runs_is_healthy() -> None:
    for one in (None, seen("a", State.CREATED), seen("a", State.EXITED)):
        assert health_of(container(), one, {"a0": Health(True, True)}, starting=False) == NOT_RUNNING
    assert health_of(container(), seen("a"), {}, starting=False) == Health(started=True, ready=True)


def test_with_probes_nothing_is_taken_for_granted() -> None:
    assert health_of(container(readiness=asks()), seen("a"), {}, starting=False) == Health(True, False)
    assert health_of(container(startup=asks()), seen("a"), {}, starting=False) == Health(False, False)
    assert health_of(container(liveness=asks()), seen("a"), {}, starting=False) == Health(True, True)
    known = {"a0": Health(True, False, Doom("it failed"))}
    assert health_of(container(liveness=asks()), seen("a"), known, starting=False) == known["a0"]


def test_it_has_not_started_while_its_hook_runs() -> None:
    hooked = container()
    hooked.lifecycle.postStart.sleep.seconds = 1
    assert health_of(hooked, seen("a"), {}, starting=True) == NOT_RUNNING
    assert health_of(hooked, seen("a"), {}, starting=False) == Health(True, True)
    assert health_of(container(), seen("a"), {}, starting=True) == Health(True, True)


def test_only_always_makes_a_sidecar() -> None:
    assert is_sidecar(Container(restartPolicy="Always"))
    assert not is_sidecar(Container())


def test_reports_of_an_earlier_agent() -> None:
    status = PodStatus()
    one = status.containerStatuses.add(containerID="docker://a0", started=True, ready=True)
    one.state.running.SetInParent()
    status.containerStatuses.add(containerID="docker://b0", ready=True).state.terminated.exitCode = 1
    assert reported_health(status) == {"a0": Health(True, True)}
