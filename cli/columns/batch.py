"""The columns of DaemonSets, Jobs, PodDisruptionBudgets and PriorityClasses, as kubectl prints them."""

from __future__ import annotations

from typing import Any

from cli.ages import human, is_set, seconds_of
from cli.columns.table import AGE, NAME, NONE, Column, pairs
from cli.columns.workloads import SELECTOR_COLUMN, TEMPLATE_COLUMNS

DAEMON_SET_COLUMNS = (
    NAME,
    Column("DESIRED", lambda ds, now: str(ds.status.desiredNumberScheduled)),
    Column("CURRENT", lambda ds, now: str(ds.status.currentNumberScheduled)),
    Column("READY", lambda ds, now: str(ds.status.numberReady)),
    Column("UP-TO-DATE", lambda ds, now: str(ds.status.updatedNumberScheduled)),
    Column("AVAILABLE", lambda ds, now: str(ds.status.numberAvailable)),
    Column("NODE SELECTOR", lambda ds, now: pairs(ds.spec.template.spec.nodeSelector)),
    AGE,
    *TEMPLATE_COLUMNS,
    SELECTOR_COLUMN,
)


REVISION_COLUMNS = (
    NAME,
    Column(
        "CONTROLLER",
        lambda one, now: next((f"{r.kind.lower()}/{r.name}" for r in one.metadata.ownerReferences if r.controller), ""),
    ),
    Column("REVISION", lambda one, now: str(one.revision)),
    AGE,
)


def job_status(job: Any) -> str:
    """Complete, Failed, Suspended, Terminating or Running."""
    held = {condition.type for condition in job.status.conditions if condition.status == "True"}
    for word in ("Complete", "Failed"):
        if word in held:
            return word
    if job.metadata.HasField("deletionTimestamp"):
        return "Terminating"
    return "Suspended" if "Suspended" in held else "Running"


def completions(job: Any) -> str:
    """Ended well of wanted: "2/5"; of a Job that ends with its first success "0/1 of 3"."""
    if job.spec.HasField("completions"):
        return f"{job.status.succeeded}/{job.spec.completions}"
    most = job.spec.parallelism
    return f"{job.status.succeeded}/1 of {most}" if most > 1 else f"{job.status.succeeded}/1"


def duration(job: Any, now: float) -> str:
    """From the start to the end, or until now; empty before the start."""
    status = job.status
    if not is_set(status.startTime):
        return ""
    end = seconds_of(status.completionTime) if is_set(status.completionTime) else now
    return human(end - seconds_of(status.startTime))


JOB_COLUMNS = (
    NAME,
    Column("STATUS", lambda job, now: job_status(job)),
    Column("COMPLETIONS", lambda job, now: completions(job)),
    Column("DURATION", duration),
    AGE,
    *TEMPLATE_COLUMNS,
    SELECTOR_COLUMN,
)


def amount(spec: Any, name: str) -> str:
    """A number or percentage of a budget's spec, "N/A" where the budget is not told that way."""
    if not spec.HasField(name):
        return "N/A"
    value = getattr(spec, name)
    return str(value.strVal if value.type == 1 else value.intVal)


BUDGET_COLUMNS = (
    NAME,
    Column("MIN AVAILABLE", lambda pdb, now: amount(pdb.spec, "minAvailable")),
    Column("MAX UNAVAILABLE", lambda pdb, now: amount(pdb.spec, "maxUnavailable")),
    Column("ALLOWED DISRUPTIONS", lambda pdb, now: str(pdb.status.disruptionsAllowed)),
    AGE,
)

PRIORITY_CLASS_COLUMNS = (
    NAME,
    Column("VALUE", lambda found, now: str(found.value)),
    Column("GLOBAL-DEFAULT", lambda found, now: str(found.globalDefault).lower()),
    AGE,
    Column("PREEMPTIONPOLICY", lambda found, now: found.preemptionPolicy or NONE),
)
