"""The resource layer on a real store: create, change, delete, bind, events."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
)
from master.api.events import KEEP_PER_NAMESPACE
from master.api.resources import Resources
from master.store.store import Remove, clone
from protos import core_pb2
from tests.master.api.conftest import Clock
from tests.master.api.making import RC, config, pod, read, service


async def test_create_sets_what_the_server_sets(resources: Resources, clock: Clock) -> None:
    given = pod()
    given.metadata.uid, given.metadata.resourceVersion, given.metadata.generation = "mine", "7", 9
    given.metadata.deletionTimestamp.seconds = 5
    given.status.phase = "Running"
    made = await resources.create(given)
    assert made.metadata.uid not in {"", "mine"}
    assert made.metadata.creationTimestamp.seconds == clock.now
    assert (made.metadata.generation, made.status.phase, made.status.qosClass) == (1, "Pending", "BestEffort")
    assert not made.metadata.HasField("deletionTimestamp")
    assert made.metadata.resourceVersion == str(resources.store.revision)
    assert given.metadata.uid == "mine"
    with pytest.raises(AlreadyExists, match='pods "web" already exists'):
        await resources.create(pod())
    with pytest.raises(AlreadyExists):
        await resources.create(pod(), dry_run=True)


async def test_generated_names(resources: Resources) -> None:
    given = pod()
    given.metadata.name, given.metadata.generateName = "", "web-"
    made = await asyncio.gather(*(resources.create(given) for _ in range(20)))
    names = {one.metadata.name for one in made}
    assert len(names) == 20 and all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_namespaces_must_be_there_and_stay(resources: Resources) -> None:
    with pytest.raises(NotFound, match='namespace "shop" not found'):
        await resources.create(config("a", "shop"))
    await resources.create(core_pb2.Namespace(metadata=core_pb2.ObjectMeta(name="shop")))
    await resources.create(config("a", "shop"))
    going = await resources.delete("Namespace", "", "shop")
    assert not going.gone and going.obj.status.phase == "Terminating"
    with pytest.raises(Forbidden, match="is being deleted"):
        await resources.create(config("b", "shop"))

    def release(namespace: core_pb2.Namespace) -> None:
        del namespace.spec.finalizers[:]

    await resources.delete("ConfigMap", "shop", "a")
    await resources.mutate("Namespace", "", "shop", release)
    with pytest.raises(NotFound):
        resources.get("Namespace", "", "shop")
    with pytest.raises(Forbidden, match="may not be deleted"):
        await resources.delete("Namespace", "", "default")


async def test_update_keeps_status_and_counts_generations(resources: Resources) -> None:
    made = await resources.create(read(RC))
    observed = clone(made)
    observed.status.replicas = 2
    observed = await resources.update_status(observed)
    assert observed.status.replicas == 2 and observed.metadata.generation == 1

    change = clone(observed)
    change.status.replicas = 77
    change.spec.replicas = 5
    change.metadata.uid = made.metadata.uid
    changed = await resources.update(change)
    assert (changed.status.replicas, changed.spec.replicas, changed.metadata.generation) == (2, 5, 2)

    labelled = clone(changed)
    labelled.metadata.labels["x"] = "y"
    assert (await resources.update(labelled)).metadata.generation == 2


async def test_an_equal_update_writes_nothing(resources: Resources) -> None:
    made = await resources.create(pod())
    revision = resources.store.revision
    assert await resources.update(made) is made
    assert await resources.update_status(made) is made
    assert await resources.mutate("Pod", "default", "web", lambda obj: None) is made
    assert resources.store.revision == revision


async def test_compare_and_swap(resources: Resources) -> None:
    made = await resources.create(config("a", key="1"))
    mine, theirs = clone(made), clone(made)
    mine.data["key"], theirs.data["key"] = "mine", "theirs"
    await resources.update(theirs)
    with pytest.raises(Conflict, match="read it again"):
        await resources.update(mine)
    forced = await resources.update(mine, force=True)
    assert forced.data["key"] == "mine"
    mine.metadata.resourceVersion = ""
    with pytest.raises(BadRequest, match="resourceVersion"):
        await resources.update(mine)
    mine.metadata.uid = "another"
    with pytest.raises(Conflict, match="made anew"):
        await resources.update(mine, force=True)


async def test_concurrent_changes_all_count(resources: Resources) -> None:
    await resources.create(config("counter", n="0"))

    def add(obj: core_pb2.ConfigMap) -> None:
        obj.data["n"] = str(int(obj.data["n"]) + 1)

    await asyncio.gather(*(resources.mutate("ConfigMap", "default", "counter", add) for _ in range(20)))
    assert resources.get("ConfigMap", "default", "counter").data["n"] == "20"


async def test_mutate_spares_what_is_gone_or_another(resources: Resources) -> None:
    assert await resources.mutate("Pod", "default", "web", lambda obj: None) is None
    await resources.create(pod())
    assert await resources.mutate("Pod", "default", "web", lambda obj: None, uid="other") is None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda new: new.spec.containers[0].command.append("x"), "spec.containers"),
        (lambda new: setattr(new.spec, "nodeName", "n2"), "spec.nodeName"),
        (lambda new: setattr(new.spec, "restartPolicy", "Never"), "spec.restartPolicy"),
        (lambda new: new.spec.ClearField("tolerations"), None),
        (lambda new: setattr(new.spec.containers[0], "image", "nginx:2"), None),
        (lambda new: setattr(new.spec, "activeDeadlineSeconds", 60), None),
        (lambda new: new.spec.tolerations.add(key="a", operator="Exists"), None),
    ],
)
async def test_of_a_pods_spec_little_may_change(resources: Resources, change: object, path: str | None) -> None:
    made = await resources.create(pod(nodeName="n1"))
    new = clone(made)
    change(new)  # type: ignore[operator]
    if path is None:
        await resources.update(new)
        return
    with pytest.raises(Invalid) as caught:
        await resources.update(new)
    assert [fault.path for fault in caught.value.faults] == [path]
    assert "delete the pod" in str(caught.value)


async def test_pods_get_their_grace(resources: Resources, clock: Clock) -> None:
    made = await resources.create(pod())
    assert await resources.bind("default", "web", made.metadata.uid, "n1")
    assert await resources.bind("default", "web", made.metadata.uid, "n1")
    assert not await resources.bind("default", "web", made.metadata.uid, "n2")
    assert not await resources.bind("default", "web", "other", "n1")
    bound = resources.get("Pod", "default", "web")
    (condition,) = bound.status.conditions
    assert (condition.type, condition.status) == ("PodScheduled", "True")

    first = await resources.delete("Pod", "default", "web", dry_run=True)
    assert not first.gone and not resources.get("Pod", "default", "web").metadata.HasField("deletionTimestamp")
    going = await resources.delete("Pod", "default", "web")
    assert not going.gone
    assert going.obj.metadata.deletionTimestamp.seconds == clock.now + 30
    assert going.obj.metadata.deletionGracePeriodSeconds == 30
    revision = resources.store.revision
    assert (await resources.delete("Pod", "default", "web", grace_seconds=60)).obj == going.obj
    assert resources.store.revision == revision
    sooner = await resources.delete("Pod", "default", "web", grace_seconds=5)
    assert sooner.obj.metadata.deletionGracePeriodSeconds == 5
    with pytest.raises(Conflict, match="nothing was deleted"):
        await resources.delete("Pod", "default", "web", grace_seconds=0, uid="other")
    await resources.finish_pod("default", "web", "other")
    assert resources.get("Pod", "default", "web")
    await resources.finish_pod("default", "web", made.metadata.uid)
    await resources.finish_pod("default", "web", made.metadata.uid)
    with pytest.raises(NotFound):
        resources.get("Pod", "default", "web")


async def test_finalizers_are_waited_for(resources: Resources) -> None:
    given = config("kept")
    given.metadata.finalizers.append("example.com/cleanup")
    await resources.create(given)
    assert not (await resources.delete("ConfigMap", "default", "kept")).gone

    def release(obj: core_pb2.ConfigMap) -> None:
        del obj.metadata.finalizers[:]

    await resources.mutate("ConfigMap", "default", "kept", release)
    with pytest.raises(NotFound):
        resources.get("ConfigMap", "default", "kept")


async def owned(resources: Resources) -> core_pb2.ReplicationController:
    rc: core_pb2.ReplicationController = await resources.create(read(RC))
    for name in ("web-1", "web-2"):
        child = pod(name)
        child.metadata.ownerReferences.add(
            apiVersion="v1", kind="ReplicationController", name="web", uid=rc.metadata.uid, controller=True
        )
        await resources.create(child)
    return rc


async def test_propagation(resources: Resources) -> None:
    await owned(resources)
    with pytest.raises(BadRequest, match="Background, Foreground, Orphan"):
        await resources.delete("ReplicationController", "default", "web", propagation="Sideways")
    going = await resources.delete("ReplicationController", "default", "web", propagation="Foreground")
    assert not going.gone and list(going.obj.metadata.finalizers) == ["foregroundDeletion"]


async def test_orphans_lose_their_owner_in_the_same_write(resources: Resources) -> None:
    await owned(resources)
    assert (await resources.delete("ReplicationController", "default", "web", propagation="Orphan")).gone
    assert all(not left.metadata.ownerReferences for left in resources.list("Pod"))
    assert len(resources.list("Pod")) == 2


async def test_services_get_addresses_that_nobody_has(resources: Resources) -> None:
    made = await asyncio.gather(*(resources.create(service(f"s{number}", type="NodePort")) for number in range(30)))
    addresses = {one.spec.clusterIP for one in made}
    ports = {one.spec.ports[0].nodePort for one in made}
    assert len(addresses) == len(ports) == 30
    assert all(30000 <= port <= 32767 for port in ports)
    await resources.create(service("mine", type="NodePort", ports=[{"port": 80, "nodePort": 8765}]))
    with pytest.raises(Invalid) as caught:
        await resources.create(service("second", type="NodePort", ports=[{"port": 80, "nodePort": 8765}]))
    assert "spec.ports[0].nodePort: 8765 is already used by service default/mine" in str(caught.value)


async def test_a_service_keeps_its_addresses_over_updates(resources: Resources) -> None:
    made = await resources.create(service(type="NodePort"))
    again = service(type="NodePort")
    again.spec.selector["tier"] = "front"
    updated = await resources.update(again, force=True)
    assert updated.spec.clusterIP == made.spec.clusterIP
    assert updated.spec.ports[0].nodePort == made.spec.ports[0].nodePort
    plain = await resources.update(service(), force=True)
    assert plain.spec.ports[0].nodePort == 0 and plain.spec.clusterIP == made.spec.clusterIP
    moved = clone(plain)
    moved.spec.clusterIP = "10.96.7.7"
    moved.spec.clusterIPs[:] = ["10.96.7.7"]
    with pytest.raises(Invalid, match=r"spec.clusterIP: must not change"):
        await resources.update(moved)


async def test_secrets_and_config_maps_may_be_fixed(resources: Resources) -> None:
    fixed = config("fixed", key="1")
    fixed.immutable = True
    made = await resources.create(fixed)
    new = clone(made)
    new.data["key"] = "2"
    with pytest.raises(Invalid, match="immutable"):
        await resources.update(new)
    secret = await resources.create(
        core_pb2.Secret(metadata=core_pb2.ObjectMeta(name="s"), stringData={"user": "me"}, data={"user": b"x"})
    )
    assert (secret.type, secret.data["user"], dict(secret.stringData)) == ("Opaque", b"me", {})
    new = clone(secret)
    new.type = "other"
    with pytest.raises(Invalid, match="type: must not change"):
        await resources.update(new)


async def test_large_objects_are_refused(resources: Resources) -> None:
    with pytest.raises(TooLarge, match="at most 1048576"):
        await resources.create(config("big", key="x" * 2_000_000))


async def test_lists_take_selectors(resources: Resources) -> None:
    one, two = pod("one"), pod("two", nodeName="n1")
    two.metadata.labels["app"] = "db"
    await resources.create(one)
    await resources.create(two)
    assert [obj.metadata.name for obj in resources.list("Pod", label_selector="app in (db)")] == ["two"]
    assert [obj.metadata.name for obj in resources.list("Pod", "default", field_selector="spec.nodeName=")] == ["one"]
    assert resources.list("Pod", "kube-system") == []
    assert len(resources.list("Pod", "")) == 2


async def test_events_are_counted_and_forgotten(resources: Resources, clock: Clock) -> None:
    made = await resources.create(pod())
    for _ in range(3):
        clock.now += 60
        await resources.record(made, "Warning", "BackOff", "restarting", "agent", "n1")
    await resources.record(made, "Normal", "Pulled", "image there", "agent", "n1")
    events = {event.reason: event for event in resources.list("Event")}
    assert events["BackOff"].count == 3
    assert events["BackOff"].lastTimestamp.seconds - events["BackOff"].firstTimestamp.seconds == 120
    assert events["BackOff"].metadata.name.startswith("web.")
    assert resources.list("Event", field_selector="involvedObject.name=web,reason=Pulled")

    clock.now += 3599
    await resources.record(made, "Normal", "Pulled", "image there", "agent", "n1")
    clock.now += 60
    assert await resources.prune_events(clock.now) == 1
    assert [event.reason for event in resources.list("Event")] == ["Pulled"]
    clock.now += 3600
    await resources.record(made, "Normal", "Pulled", "image there", "agent", "n1")
    assert resources.list("Event")[0].count == 1


async def test_no_namespace_is_flooded_with_events(resources: Resources, clock: Clock) -> None:
    made = await resources.create(pod())
    for batch in range(12):
        clock.now += 1
        await asyncio.gather(
            *(resources.record(made, "Normal", "R", f"{batch}-{number}", "test") for number in range(100))
        )
    assert len(resources.list("Event")) <= KEEP_PER_NAMESPACE + 100
    await resources.prune_events(clock.now)
    left = resources.list("Event")
    assert len(left) == KEEP_PER_NAMESPACE
    assert any(event.message == "11-0" for event in left) and not any(event.message == "0-0" for event in left)


async def test_events_of_cluster_kinds_live_in_default(resources: Resources) -> None:
    node = await resources.create(core_pb2.Node(metadata=core_pb2.ObjectMeta(name="n1")))
    await resources.record(node, "Normal", "NodeReady", "it is", "test")
    (event,) = resources.list("Event", "default")
    assert (event.involvedObject.kind, event.involvedObject.uid) == ("Node", node.metadata.uid)


async def test_nothing_outlives_its_namespace(resources: Resources) -> None:
    await resources.create(core_pb2.Namespace(metadata=core_pb2.ObjectMeta(name="shop")))
    # The object is checked while the namespace stands, and its removal is on the way to the disk before it.
    async with asyncio.TaskGroup() as group:
        group.create_task(resources.store.commit(Remove("Namespace", "", "shop")))
        await asyncio.sleep(0)
        with pytest.raises(Forbidden, match="at the same moment"):
            await resources.create(config("late", "shop"))
    assert resources.list("ConfigMap", "shop") == []
