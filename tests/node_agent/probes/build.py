"""Containers with probes for the tests of this folder."""

from __future__ import annotations

from protos.core_pb2 import Container, Probe

FIELDS = {"startup": "startupProbe", "liveness": "livenessProbe", "readiness": "readinessProbe"}


def container(name: str = "a", **probes: Probe) -> Container:
    """`container(liveness=...)`."""
    made = Container(name=name, image="app:1")
    for word, probe in probes.items():
        getattr(made, FIELDS[word]).CopyFrom(probe)
    return made


def asks(*command: str, period: int = 1, **figures: int) -> Probe:
    """An exec probe."""
    probe = Probe(periodSeconds=period)
    for name, figure in figures.items():
        setattr(probe, name, figure)
    probe.handler.exec.command.extend(command or ("true",))
    return probe
