"""Rules about DaemonSets."""

from __future__ import annotations

import json

from master.api.validation.faults import Faults
from master.api.validation.template import unchanged, validate_amount, validate_template
from master.controllers.amounts import scaled
from protos import apps_pb2


def validate_daemon_set(ds: apps_pb2.DaemonSet, faults: Faults) -> None:
    spec = ds.spec
    validate_template("DaemonSet", spec.selector, spec.template, faults)
    if spec.template.spec.HasField("activeDeadlineSeconds"):
        faults.add("spec.template.spec.activeDeadlineSeconds", "must not be set in a DaemonSet")
    faults.at_least("spec.minReadySeconds", spec.minReadySeconds, 0)
    faults.at_least("spec.revisionHistoryLimit", spec.revisionHistoryLimit, 0)
    strategy = spec.updateStrategy
    faults.one_of("spec.updateStrategy.type", strategy.type, ("RollingUpdate", "OnDelete"))
    if strategy.type == "OnDelete" and strategy.HasField("rollingUpdate"):
        faults.add("spec.updateStrategy.rollingUpdate", "must be left out where type is OnDelete")
    elif strategy.type == "RollingUpdate":
        _rolling(strategy.rollingUpdate, faults)


def _rolling(rolling: apps_pb2.RollingUpdateDaemonSet, faults: Faults) -> None:
    path = "spec.updateStrategy.rollingUpdate"
    validate_amount(f"{path}.maxUnavailable", rolling.maxUnavailable, faults)
    validate_amount(f"{path}.maxSurge", rolling.maxSurge, faults)
    # Of a hundred nodes: whether a percentage is 0 does not depend on the number.
    unavailable, surge = scaled(rolling.maxUnavailable, 100, up=True), scaled(rolling.maxSurge, 100, up=True)
    if unavailable and surge:
        faults.add(
            f"{path}.maxSurge", "must be 0 where maxUnavailable is not (old pods go first, or new ones come first)"
        )
    if not unavailable and not surge:
        faults.add(f"{path}.maxUnavailable", "must not be 0 where maxSurge is 0: nothing could ever be updated")


def validate_daemon_set_update(new: apps_pb2.DaemonSet, old: apps_pb2.DaemonSet, faults: Faults) -> None:
    unchanged("spec.selector", new.spec.selector, old.spec.selector, faults)


def validate_revision(found: apps_pb2.ControllerRevision, faults: Faults) -> None:
    faults.at_least("revision", found.revision, 0)
    try:
        data = json.loads(found.data.raw)
    except ValueError as error:
        faults.add("data", f"must be an object: {error}")
        return
    if not isinstance(data, dict):
        faults.add("data", "must be an object")


def validate_revision_update(
    new: apps_pb2.ControllerRevision, old: apps_pb2.ControllerRevision, faults: Faults
) -> None:
    unchanged("data", new.data, old.data, faults)
