"""A container's probes as figures, with Kubernetes' defaults; pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from protos.core_pb2 import Container, Probe


class Kind(enum.Enum):
    """The value is the word Events begin with."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


@dataclass(frozen=True)
class Rules:
    """Seconds and counts of one probe; `grace` is its own terminationGracePeriodSeconds, None for the pod's.

    The defaults are those of the Kubernetes API reference (Probe v1 core).
    """

    initial_delay: float = 0.0
    timeout: float = 1.0
    period: float = 10.0
    success: int = 1
    failure: int = 3
    grace: int | None = None


def rules_of(container: Container) -> Mapping[Kind, Rules]:
    """The probes a container has."""
    return {kind: _rules(probe) for kind, probe in probes_of(container).items()}


def probes_of(container: Container) -> Mapping[Kind, Probe]:
    """The same as messages."""
    named = {
        Kind.STARTUP: ("startupProbe", container.startupProbe),
        Kind.LIVENESS: ("livenessProbe", container.livenessProbe),
        Kind.READINESS: ("readinessProbe", container.readinessProbe),
    }
    return {kind: probe for kind, (field, probe) in named.items() if container.HasField(field)}  # type: ignore[arg-type]


def _rules(probe: Probe) -> Rules:
    usual = Rules()
    return Rules(
        initial_delay=float(probe.initialDelaySeconds),
        timeout=float(probe.timeoutSeconds or usual.timeout),
        period=float(probe.periodSeconds or usual.period),
        success=probe.successThreshold or usual.success,
        failure=probe.failureThreshold or usual.failure,
        grace=probe.terminationGracePeriodSeconds if probe.HasField("terminationGracePeriodSeconds") else None,
    )
