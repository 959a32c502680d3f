"""Plans on their way into the store: what was planned for an owner that wants something else by now is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from master.controllers.apply import carry_out
from master.controllers.plan import Create, Delete
from master.store.store import key_of
from protos import core_pb2
from tests.master.controllers.living import stored


def controller() -> core_pb2.ReplicationController:
    made = core_pb2.ReplicationController()
    made.metadata.name, made.metadata.namespace = "web", "default"
    made.spec.replicas = 1
    made.spec.selector["app"] = "web"
    made.spec.template.metadata.labels["app"] = "web"
    made.spec.template.spec.containers.add(name="main", image="app:1")
    return made


def pod(name: str) -> core_pb2.Pod:
    made = core_pb2.Pod()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.containers.add(name="main", image="app:1")
    return made


def ignore(made: Any) -> None:
    return None


async def test_pods_are_made_and_deleted_for_what_their_owner_wants_now(tmp_path: Path) -> None:
    async with stored(tmp_path) as (store, resources):
        owner = await resources.create(controller())
        there = await resources.create(pod("there"))
        delete = Delete(key_of(there), there.metadata.uid, grace=0, owner=owner)

        def names() -> list[str]:
            return [one.metadata.name for one in store.list("Pod")]

        assert await carry_out(Create(pod("first"), owner=owner), resources, ignore) == "first"

        def change(newest: core_pb2.ReplicationController) -> None:
            newest.status.replicas = 7

        await resources.mutate("ReplicationController", "default", "web", change, status=True)
        assert await carry_out(Create(pod("second"), owner=owner), resources, ignore) == "second"

        def scale(newest: core_pb2.ReplicationController) -> None:
            newest.spec.replicas = 4

        await resources.mutate("ReplicationController", "default", "web", scale)
        assert await carry_out(Create(pod("third"), owner=owner), resources, ignore) == ""
        assert await carry_out(delete, resources, ignore) == ""
        assert names() == ["first", "second", "there"]
        newest = resources.get("ReplicationController", "default", "web")
        assert await carry_out(Delete(delete.key, delete.uid, grace=0, owner=newest), resources, ignore) == "there"
        await resources.delete("ReplicationController", "default", "web", propagation="Orphan")
        assert await carry_out(Create(pod("fourth"), owner=newest), resources, ignore) == ""
        assert names() == ["first", "second"]
