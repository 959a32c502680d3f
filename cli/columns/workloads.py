"""The columns of ReplicaSets and Deployments, as kubectl prints them; the wide ones are for any pod template."""

from __future__ import annotations

from typing import Any

from cli.columns.table import AGE, NAME, NONE, Column, listed
from common.selectors import from_message


def selector(obj: Any) -> str:
    """A full label selector as text, "<none>" for an empty one."""
    return str(from_message(obj.spec.selector)) or NONE


def _containers(obj: Any, now: float) -> str:
    return listed(container.name for container in obj.spec.template.spec.containers)


def _images(obj: Any, now: float) -> str:
    return listed(container.image for container in obj.spec.template.spec.containers)


TEMPLATE_COLUMNS = (
    Column("CONTAINERS", _containers, wide=True),
    Column("IMAGES", _images, wide=True),
)
SELECTOR_COLUMN = Column("SELECTOR", lambda obj, now: selector(obj), wide=True)

REPLICA_SET_COLUMNS = (
    NAME,
    Column("DESIRED", lambda rs, now: str(rs.spec.replicas)),
    Column("CURRENT", lambda rs, now: str(rs.status.replicas)),
    Column("READY", lambda rs, now: str(rs.status.readyReplicas)),
    AGE,
    *TEMPLATE_COLUMNS,
    SELECTOR_COLUMN,
)

DEPLOYMENT_COLUMNS = (
    NAME,
    Column("READY", lambda found, now: f"{found.status.readyReplicas}/{found.spec.replicas}"),
    Column("UP-TO-DATE", lambda found, now: str(found.status.updatedReplicas)),
    Column("AVAILABLE", lambda found, now: str(found.status.availableReplicas)),
    AGE,
    *TEMPLATE_COLUMNS,
    SELECTOR_COLUMN,
)
