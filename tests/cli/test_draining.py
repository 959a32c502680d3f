"""Which pods a drain takes, leaves, or refuses to begin for; kubectl's rules."""

from __future__ import annotations

from typing import Any

import pytest

from cli.draining import (
    ALONE_FATAL,
    ALONE_WARNING,
    DAEMON_FATAL,
    DAEMON_WARNING,
    ORPHAN_FATAL,
    STORAGE_FATAL,
    STORAGE_WARNING,
    Allowed,
    choose,
)
from protos import core_pb2


def pod(name: str, owner: str = "ReplicationController", *, empty_dir: bool = False, phase: str = "Running") -> Any:
    made = core_pb2.Pod(status=core_pb2.PodStatus(phase=phase))
    made.metadata.name, made.metadata.namespace, made.metadata.uid = name, "default", name
    if owner:
        made.metadata.ownerReferences.add(kind=owner, name="o", uid=f"uid-{owner}", controller=True)
    if empty_dir:
        made.spec.volumes.add(name="v").volumeSource.emptyDir.SetInParent()
    return made


def names(found: list[Any]) -> list[str]:
    return [one.metadata.name for one in found]


@pytest.mark.parametrize(
    ("one", "allowed", "goes", "fatal", "warning"),
    [
        (pod("a"), Allowed(), True, "", ""),
        (pod("a", ""), Allowed(), False, ALONE_FATAL, ""),
        (pod("a", ""), Allowed(force=True), True, "", ALONE_WARNING),
        (pod("a", "", phase="Succeeded"), Allowed(), True, "", ""),
        (pod("a", "DaemonSet"), Allowed(), False, DAEMON_FATAL, ""),
        (pod("a", "DaemonSet"), Allowed(force=True), False, DAEMON_FATAL, ""),
        (pod("a", "DaemonSet"), Allowed(ignore_daemonsets=True), False, "", DAEMON_WARNING),
        (pod("a", "DaemonSet", phase="Failed"), Allowed(), True, "", ""),
        (pod("a", empty_dir=True), Allowed(), False, STORAGE_FATAL, ""),
        (pod("a", empty_dir=True), Allowed(delete_emptydir_data=True), True, "", STORAGE_WARNING),
        (pod("a", empty_dir=True, phase="Failed"), Allowed(), True, "", ""),
    ],
)
def test_one_pod(one: Any, allowed: Allowed, goes: bool, fatal: str, warning: str) -> None:
    chosen = choose([one], allowed, ["uid-DaemonSet"])
    assert names(chosen.going) == (["a"] if goes else [])
    assert chosen.problem() == (f"{fatal}: default/a" if fatal else "")
    assert chosen.remarks() == ([f"{warning}: default/a"] if warning else [])


def test_pods_of_a_daemon_set_that_is_gone_need_force() -> None:
    assert (
        choose([pod("a", "DaemonSet")], Allowed(ignore_daemonsets=True), []).problem() == f"{ORPHAN_FATAL}: default/a"
    )
    assert names(choose([pod("a", "DaemonSet")], Allowed(force=True), []).going) == ["a"]


def test_all_reasons_are_told_at_once() -> None:
    chosen = choose([pod("a", "", empty_dir=True), pod("b", "DaemonSet"), pod("c"), pod("d", "")], Allowed(),
                    ["uid-DaemonSet"])  # fmt: skip
    assert chosen.problem().count("cannot delete") == 3 and "override): default/a, default/d" in chosen.problem()
    assert names(chosen.going) == ["c"]
