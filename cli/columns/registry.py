"""The table of every kind: a new kind is one entry here; a kind without one shows NAME and AGE."""

from __future__ import annotations

from collections.abc import Iterable

from cli.columns import batch, events, network, nodes, pods, workloads
from cli.columns.table import AGE, NAME, Column, pairs

COLUMNS: dict[str, tuple[Column, ...]] = {
    "Pod": pods.COLUMNS,
    "Node": nodes.COLUMNS,
    "Service": network.SERVICE_COLUMNS,
    "Endpoints": network.ENDPOINTS_COLUMNS,
    "Event": events.COLUMNS,
    "ReplicationController": (
        NAME,
        Column("DESIRED", lambda rc, now: str(rc.spec.replicas)),
        Column("CURRENT", lambda rc, now: str(rc.status.replicas)),
        Column("READY", lambda rc, now: str(rc.status.readyReplicas)),
        AGE,
        *workloads.TEMPLATE_COLUMNS,
        Column("SELECTOR", lambda rc, now: pairs(rc.spec.selector), wide=True),
    ),
    "ReplicaSet": workloads.REPLICA_SET_COLUMNS,
    "Deployment": workloads.DEPLOYMENT_COLUMNS,
    "DaemonSet": batch.DAEMON_SET_COLUMNS,
    "ControllerRevision": batch.REVISION_COLUMNS,
    "Job": batch.JOB_COLUMNS,
    "PodDisruptionBudget": batch.BUDGET_COLUMNS,
    "PriorityClass": batch.PRIORITY_CLASS_COLUMNS,
    "Namespace": (
        NAME,
        Column("STATUS", lambda namespace, now: namespace.status.phase or "Active"),
        AGE,
    ),
    "ConfigMap": (
        NAME,
        Column("DATA", lambda config, now: str(len(config.data) + len(config.binaryData))),
        AGE,
    ),
    "Secret": (
        NAME,
        Column("TYPE", lambda secret, now: secret.type or "Opaque"),
        Column("DATA", lambda secret, now: str(len(secret.data))),
        AGE,
    ),
}

_DEFAULT = (NAME, AGE)


def columns(
    kind: str,
    *,
    wide: bool = False,
    namespaces: bool = False,
    label_columns: Iterable[str] = (),
    labels: bool = False,
    prefix: str = "",
) -> tuple[Column, ...]:
    """The columns to show for a kind.

    `prefix` ("pod/") goes before each name where a table of several kinds is asked for; `label_columns` are
    labels shown in columns of their own.
    """
    chosen = [column for column in COLUMNS.get(kind, _DEFAULT) if wide or not column.wide]
    if prefix:
        chosen = [
            Column(c.heading, lambda o, now: f"{prefix}{o.metadata.name}") if c.heading == "NAME" else c for c in chosen
        ]
    if namespaces:
        chosen.insert(0, Column("NAMESPACE", lambda o, now: o.metadata.namespace))
    for label in label_columns:
        heading = label.rpartition("/")[2].upper()
        chosen.append(Column(heading, lambda o, now, label=label: o.metadata.labels.get(label, "")))  # type: ignore[misc]
    if labels:
        chosen.append(Column("LABELS", lambda o, now: pairs(o.metadata.labels)))
    return tuple(chosen)
