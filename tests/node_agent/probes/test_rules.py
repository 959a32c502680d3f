"""A probe's figures."""

from __future__ import annotations

from node_agent.probes.rules import Kind, Rules, rules_of
from protos.core_pb2 import Probe
from tests.node_agent.probes.build import asks, container


def test_what_is_not_said_is_kubernetes_default() -> None:
    bare = Probe()
    bare.handler.tcpSocket.port.intVal = 80
    assert rules_of(container(readiness=bare)) == {Kind.READINESS: Rules(0.0, 1.0, 10.0, 1, 3, None)}
    assert rules_of(container()) == {}


def test_what_is_said_counts() -> None:
    probe = asks("true", initialDelaySeconds=5, timeoutSeconds=2, period=7, successThreshold=3, failureThreshold=4)
    probe.terminationGracePeriodSeconds = 9
    assert rules_of(container(liveness=probe))[Kind.LIVENESS] == Rules(5.0, 2.0, 7.0, 3, 4, 9)
