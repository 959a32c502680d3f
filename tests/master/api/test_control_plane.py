"""The control service over a real socket: every RPC, its errors, its streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import grpc.aio
import pytest

from common.rpc import open_channel
from protos import control_pb2, control_pb2_grpc, core_pb2
from tests.master.api.conftest import Served

Event = control_pb2.WatchEvent

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: web, image: "nginx:1.27", ports: [{containerPort: 80}]}
"""


def manifest(text: str) -> control_pb2.Object:
    return control_pb2.Object(manifest=text)


def config(name: str, **labels: str) -> control_pb2.Object:
    meta = core_pb2.ObjectMeta(name=name, labels=labels)
    return control_pb2.Object(configmap=core_pb2.ConfigMap(metadata=meta, data={"key": "value"}))


async def create(served: Served, obj: control_pb2.Object, namespace: str = "") -> Any:
    answer = await served.stub.Create(control_pb2.CreateRequest(object=obj, namespace=namespace))
    return getattr(answer.object, str(answer.object.WhichOneof("object")))


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def events(call: Any, count: int) -> list[control_pb2.WatchEvent]:
    async with asyncio.timeout(30):
        return [await call.read() for _ in range(count)]


def told(event: control_pb2.WatchEvent) -> tuple[str, str]:
    chosen = event.object.WhichOneof("object")
    name = getattr(event.object, chosen).metadata.name if chosen else ""
    return Event.Type.Name(event.type), name


async def test_create_get_update_list_delete(served: Served) -> None:
    pod = await create(served, manifest(WEB))
    assert pod.metadata.uid and pod.metadata.generation == 1 and pod.status.phase == "Pending"
    assert pod.metadata.namespace == "default" and pod.spec.restartPolicy == "Always"

    got = await served.stub.Get(control_pb2.GetRequest(kind="po", name="web"))
    assert got.object.pod == pod

    pod.metadata.labels["tier"] = "front"
    updated = await served.stub.Update(control_pb2.UpdateRequest(object=control_pb2.Object(pod=pod)))
    assert updated.object.pod.metadata.generation == 1
    code, text = await refused(served.stub.Update(control_pb2.UpdateRequest(object=control_pb2.Object(pod=pod))))
    assert code is grpc.StatusCode.ABORTED and "read it again" in text

    listed = await served.stub.List(control_pb2.ListRequest(kind="pods", label_selector="tier=front"))
    assert [item.pod.metadata.name for item in listed.items] == ["web"]
    assert listed.resource_version == updated.object.pod.metadata.resourceVersion

    deleted = await served.stub.Delete(control_pb2.DeleteRequest(kind="pod", name="web"))
    assert deleted.gone
    code, text = await refused(served.stub.Get(control_pb2.GetRequest(kind="pod", name="web")))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, 'pods "web" not found in namespace default')


async def test_every_fault_of_a_manifest_comes_at_once(served: Served) -> None:
    bad = WEB.replace("containerPort: 80", "containerPort: 99999").replace("name: web, image", "name: Web, image")
    code, text = await refused(served.stub.Create(control_pb2.CreateRequest(object=manifest(bad))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert 'Pod "web" is invalid' in text
    assert "spec.containers[0].ports[0].containerPort: must be 1-65535, got 99999" in text
    assert "spec.containers[0].name: must consist of" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod\n  bad: x", "manifest:2:"),
        ("", "is empty"),
        (f"{WEB}---{WEB}", "sampan apply"),
        ("apiVersion: v1\nkind: List\nitems: []", "sampan apply"),
        ("apiVersion: v1\nkind: PodList\nitems: []", "sampan apply"),
        (WEB.replace("image:", "imagge:"), 'unknown field, did you mean "image"?'),
        ("apiVersion: apps/v1\nkind: StatefulSet", "not supported yet"),
    ],
)
async def test_bad_manifest_text(served: Served, text: str, words: str) -> None:
    obj = control_pb2.Object(manifest=text)
    for call in (
        served.stub.Create(control_pb2.CreateRequest(object=obj)),
        served.stub.Apply(control_pb2.ApplyRequest(object=obj)),
    ):
        code, said = await refused(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in said


async def test_an_empty_object_says_what_it_may_hold(served: Served) -> None:
    code, text = await refused(served.stub.Create(control_pb2.CreateRequest()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "manifest" in text and "pod" in text


async def test_too_large_objects_name_their_size(served: Served) -> None:
    big = core_pb2.ConfigMap(metadata=core_pb2.ObjectMeta(name="big"), data={"k": "x" * 1_100_000})
    request = control_pb2.CreateRequest(object=control_pb2.Object(configmap=big))
    code, text = await refused(served.stub.Create(request))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "too large" in text and "11000" in text


async def test_apply_tells_what_it_did_and_warns(served: Served) -> None:
    outcome = control_pb2.ApplyResponse
    text = WEB + "  schedulerName: other\n"
    first = await served.stub.Apply(control_pb2.ApplyRequest(object=manifest(text)))
    assert first.outcome == outcome.CREATED and "schedulerName" in first.warnings[0]
    again = await served.stub.Apply(control_pb2.ApplyRequest(object=manifest(text)))
    assert again.outcome == outcome.UNCHANGED and again.object == first.object
    changed = await served.stub.Apply(control_pb2.ApplyRequest(object=manifest(text.replace("1.27", "1.28"))))
    assert changed.outcome == outcome.CONFIGURED
    assert changed.object.pod.spec.containers[0].image == "nginx:1.28"
    assert changed.object.pod.metadata.generation == 2


async def test_dry_run_stores_nothing(served: Served) -> None:
    before = served.store.revision
    await served.stub.Create(control_pb2.CreateRequest(object=manifest(WEB), dry_run=True))
    await served.stub.Apply(control_pb2.ApplyRequest(object=manifest(WEB), dry_run=True))
    assert served.store.revision == before


async def test_lists_come_in_pages_of_one_moment(served: Served) -> None:
    for number in range(5):
        await create(served, config(f"c{number}"))
    first = await served.stub.List(control_pb2.ListRequest(kind="cm", limit=2))
    await create(served, config("c9"))
    names, token = [item.configmap.metadata.name for item in first.items], first.continue_token
    while token:
        page = await served.stub.List(control_pb2.ListRequest(kind="cm", limit=2, continue_token=token))
        assert page.resource_version == first.resource_version
        names += [item.configmap.metadata.name for item in page.items]
        token = page.continue_token
    assert names == ["c0", "c1", "c2", "c3", "c4"]
    code, _ = await refused(served.stub.List(control_pb2.ListRequest(kind="cm", continue_token="old")))
    assert code is grpc.StatusCode.OUT_OF_RANGE


async def test_selectors_are_checked(served: Served) -> None:
    bad = control_pb2.ListRequest(kind="pods", field_selector="spec.color=red")
    code, text = await refused(served.stub.List(bad))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "status.phase" in text
    code, text = await refused(served.stub.List(control_pb2.ListRequest(kind="pods", label_selector="a in b")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "'('" in text
    code, text = await refused(served.stub.List(control_pb2.ListRequest(kind="pudding")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "unknown resource" in text


async def test_watch_sends_what_is_there_then_a_bookmark_then_changes(served: Served) -> None:
    await create(served, config("first", app="a"))
    call = served.stub.Watch(control_pb2.WatchRequest(kind="configmaps", label_selector="app=a"))
    opening = await events(call, 2)
    assert [told(event) for event in opening] == [("ADDED", "first"), ("BOOKMARK", "")]

    second = await create(served, config("second", app="b"))
    second.metadata.labels["app"] = "a"
    request = control_pb2.UpdateRequest(object=control_pb2.Object(configmap=second))
    second = (await served.stub.Update(request)).object.configmap
    second.data["key"] = "other"
    request = control_pb2.UpdateRequest(object=control_pb2.Object(configmap=second))
    second = (await served.stub.Update(request)).object.configmap
    second.metadata.labels["app"] = "b"
    await served.stub.Update(control_pb2.UpdateRequest(object=control_pb2.Object(configmap=second)))
    await served.stub.Delete(control_pb2.DeleteRequest(kind="cm", name="second"))
    await served.stub.Delete(control_pb2.DeleteRequest(kind="cm", name="first"))
    seen = await events(call, 4)
    assert [told(event) for event in seen] == [
        ("ADDED", "second"),
        ("MODIFIED", "second"),
        ("DELETED", "second"),
        ("DELETED", "first"),
    ]
    assert seen[2].object.configmap.metadata.labels["app"] == "a"
    call.cancel()

    # A watch that resumes sees exactly what came after.
    resumed = served.stub.Watch(
        control_pb2.WatchRequest(kind="configmaps", label_selector="app=a", resource_version=seen[1].resource_version)
    )
    assert [told(event) for event in await events(resumed, 2)] == [("DELETED", "second"), ("DELETED", "first")]
    resumed.cancel()


async def test_watch_from_a_revision_that_is_not_kept(served: Served) -> None:
    call = served.stub.Watch(control_pb2.WatchRequest(kind="pods", resource_version="999999"))
    code, text = await refused(call.read())
    assert code is grpc.StatusCode.OUT_OF_RANGE and "list again" in text
    call = served.stub.Watch(control_pb2.WatchRequest(kind="pods", resource_version="new"))
    assert (await refused(call.read()))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_open_streams_end_when_the_master_stops(served: Served) -> None:
    watch = served.stub.Watch(control_pb2.WatchRequest(kind="pods"))
    await events(watch, 1)
    served.servicer.close()
    code, text = await refused(watch.read())
    assert code is grpc.StatusCode.UNAVAILABLE and "shutting down" in text
    async with asyncio.timeout(30):
        await served.server.stop(60)
    assert not served.store._watches


async def test_a_watcher_that_leaves_is_forgotten(served: Served) -> None:
    call = served.stub.Watch(control_pb2.WatchRequest(kind="pods"))
    await events(call, 1)
    assert len(served.store._watches) == 1
    call.cancel()
    async with asyncio.timeout(30):
        while served.store._watches:
            await asyncio.sleep(0.01)


async def running_pod(served: Served) -> core_pb2.Pod:
    pod = await create(served, manifest(WEB))
    assert await served.resources.bind("default", "web", pod.metadata.uid, "node-1")
    pod = (await served.stub.Get(control_pb2.GetRequest(kind="pod", name="web"))).object.pod
    status = pod.status.containerStatuses.add(name="web")
    status.state.running.startedAt.seconds = 1
    request = control_pb2.UpdateRequest(object=control_pb2.Object(pod=pod), status=True)
    return (await served.stub.Update(request)).object.pod


async def test_logs_are_relayed(served: Served) -> None:
    await running_pod(served)
    served.logs.chunks = [b"one\n", b"two\n"]
    request = control_pb2.LogsRequest(pod="web", tail_lines=5, timestamps=True)
    data = b"".join([chunk.data async for chunk in served.stub.Logs(request)])
    assert data == b"one\ntwo\n"
    node, command = served.logs.asked[0]
    assert (node, command.container, command.tail_lines, command.timestamps) == ("node-1", "web", 5, True)
    assert not command.HasField("since_seconds") and served.logs.closed == 1


async def test_a_reader_of_logs_that_leaves_ends_the_relay(served: Served) -> None:
    await running_pod(served)
    served.logs.chunks, served.logs.endless = [b"one\n"], True
    call: Any = served.stub.Logs(control_pb2.LogsRequest(pod="web", follow=True))
    assert (await call.read()).data == b"one\n"
    call.cancel()
    async with asyncio.timeout(30):
        while not served.logs.closed:
            await asyncio.sleep(0.01)


async def test_logs_that_cannot_be_had_say_why(served: Served) -> None:
    request = control_pb2.LogsRequest(pod="web")
    assert (await refused(served.stub.Logs(request).read()))[0] is grpc.StatusCode.NOT_FOUND
    await create(served, manifest(WEB))
    code, text = await refused(served.stub.Logs(request).read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "not on a node yet" in text
    code, text = await refused(served.stub.Logs(control_pb2.LogsRequest(pod="web", container="x")).read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT and 'no container "x": it has web' in text


async def test_join_tokens(served: Served) -> None:
    made = await served.stub.CreateJoinToken(control_pb2.CreateJoinTokenRequest(description="rack 3"))
    assert made.addresses == ["10.0.0.1:7443"] and made.token.startswith(made.info.id + ".")
    listed = await served.stub.ListJoinTokens(control_pb2.ListJoinTokensRequest())
    assert [(token.id, token.description) for token in listed.tokens] == [(made.info.id, "rack 3")]
    secret = made.token.partition(".")[2]
    stored = await served.stub.List(control_pb2.ListRequest(kind="secrets"))
    assert all(secret.encode() not in item.SerializeToString() for item in stored.items)
    await served.stub.RevokeJoinToken(control_pb2.RevokeJoinTokenRequest(id=made.token))
    code, _ = await refused(served.stub.RevokeJoinToken(control_pb2.RevokeJoinTokenRequest(id=made.info.id)))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_backup_and_restore(served: Served) -> None:
    await create(served, config("kept"))
    saved = [chunk async for chunk in served.stub.Backup(control_pb2.BackupRequest())]
    await served.stub.Delete(control_pb2.DeleteRequest(kind="cm", name="kept"))

    async def chunks() -> AsyncIterator[control_pb2.BackupChunk]:
        for chunk in saved:
            yield chunk

    restored = await served.stub.Restore(chunks())
    assert restored.objects == 6
    assert (await served.stub.Get(control_pb2.GetRequest(kind="cm", name="kept"))).object.configmap.data["key"]


async def test_restore_refuses_what_is_no_backup(served: Served) -> None:
    async def nothing() -> AsyncIterator[control_pb2.BackupChunk]:
        for data in (b"not", b" a backup"):
            yield control_pb2.BackupChunk(data=data)

    code, _ = await refused(served.stub.Restore(nothing()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_version(served: Served) -> None:
    answer = await served.stub.Version(control_pb2.VersionRequest())
    assert (answer.cluster, answer.schema) == ("test", 1) and answer.version


async def test_a_wrong_token_is_told_even_near_by(served: Served) -> None:
    request = control_pb2.VersionRequest()
    call = served.stub.Version(request, metadata=[("authorization", "Bearer wrong")])
    code, text = await refused(call)
    assert code is grpc.StatusCode.UNAUTHENTICATED and "SAMPAN_TOKEN" in text
    await served.stub.Version(request, metadata=[("authorization", "Bearer the-admin-token")])


async def test_a_node_is_asked_for_what_it_knows(served: Served) -> None:
    served.logs.answers["node-1", "network"] = b'{"node":"node-1"}'
    request = control_pb2.NodeQueryRequest(node="node-1", what="network")
    assert (await refused(served.stub.NodeQuery(request)))[0] is grpc.StatusCode.NOT_FOUND
    await create(served, manifest("{apiVersion: v1, kind: Node, metadata: {name: node-1}}"))
    assert (await served.stub.NodeQuery(request)).json == '{"node":"node-1"}'
    code, text = await refused(served.stub.NodeQuery(control_pb2.NodeQueryRequest(node="node-1")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and text.startswith("what:")


async def test_foreign_errors_are_not_shown(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def logs(self, node: str, command: object) -> AsyncIterator[bytes]:
            raise RuntimeError("a private matter")

        async def query(self, node: str, what: str) -> bytes:
            raise RuntimeError("a private matter")

        def open(self, node: str, command: object, otherwise: str) -> AbstractAsyncContextManager[Any]:
            raise RuntimeError("a private matter")

    await running_pod(served)
    served.servicer._logs = Broken()
    code, text = await refused(served.stub.Logs(control_pb2.LogsRequest(pod="web")).read())
    assert code is grpc.StatusCode.INTERNAL and "private" not in text


async def test_manifests_may_be_json(served: Served) -> None:
    doc = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "j"}, "data": {"a": "b"}}
    made = await create(served, manifest(json.dumps(doc)), namespace="kube-system")
    assert made.metadata.namespace == "kube-system"


async def test_slow_or_many_clients_share_one_server(served: Served) -> None:
    async with open_channel(f"127.0.0.1:{served.port}") as channel:
        stub: Any = control_pb2_grpc.ControlPlaneStub(channel)
        await asyncio.gather(
            *(stub.Create(control_pb2.CreateRequest(object=config(f"many-{number}"))) for number in range(50))
        )
    assert len(served.resources.list("ConfigMap")) == 50
