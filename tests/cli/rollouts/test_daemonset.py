"""The revisions of a DaemonSet as the controller writes them, and the way back to one."""

from __future__ import annotations

from cli.rollouts import daemonset
from cli.rollouts.revision import pick
from master.controllers.daemon_history import data_of
from protos import apps_pb2


def wanted(image: str, uid: str = "u-1") -> apps_pb2.DaemonSet:
    ds = apps_pb2.DaemonSet()
    ds.metadata.name, ds.metadata.uid = "logs", uid
    ds.spec.template.metadata.labels["app"] = "logs"
    container = ds.spec.template.spec.containers.add(name="main", image=image)
    container.resources.limits["memory"].value = "64Mi"
    container.ports.add(containerPort=80)
    return ds


def kept(ds: apps_pb2.DaemonSet, number: int, cause: str = "") -> apps_pb2.ControllerRevision:
    made = apps_pb2.ControllerRevision(revision=number)
    made.metadata.ownerReferences.add(kind="DaemonSet", name="logs", uid=ds.metadata.uid, controller=True)
    made.data.raw = data_of(ds.spec.template)
    if cause:
        made.metadata.annotations["kubernetes.io/change-cause"] = cause
    return made


def test_a_template_comes_back_as_it_was() -> None:
    first, second = wanted("logs:1"), wanted("logs:2")
    others = kept(wanted("logs:9", uid="u-2"), 7)
    found = daemonset.revisions(second, [kept(second, 2), others, kept(first, 1, "the first")])
    assert [(one.number, one.cause) for one in found] == [(1, "the first"), (2, "")]
    chosen = pick(found, 0)
    assert chosen is not None
    chosen.put_back(second)
    assert second.spec.template.SerializeToString(deterministic=True) == first.spec.template.SerializeToString(
        deterministic=True
    ), "the same bytes have the same hash"
    assert second.metadata.annotations["kubernetes.io/change-cause"] == "the first"
