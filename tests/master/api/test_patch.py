"""Patch over real gRPC: three kinds, conditions, faults, dry runs, and two writers at once."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from protos import control_pb2
from tests.master.api.conftest import Served
from tests.master.api.test_control_plane import config, create, refused

TYPES = control_pb2.PatchRequest


async def patch(
    served: Served, text: str, how: int, *, name: str = "kept", dry_run: bool = False
) -> control_pb2.Object:
    request = TYPES(kind="cm", name=name, type=how, patch=text, dry_run=dry_run)  # type: ignore[arg-type]
    return (await served.stub.Patch(request)).object


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (TYPES.STRATEGIC, "data: {b: two}"),
        (TYPES.MERGE, '{"data": {"b": "two"}}'),
        (TYPES.JSON, '[{"op": "add", "path": "/data", "value": {"b": "two"}}]'),
        (TYPES.JSON, "- op: add\n  path: /data\n  value: {b: two}\n"),
    ],
)
async def test_the_three_kinds(served: Served, how: int, text: str) -> None:
    await create(served, config("kept"))
    tried = await patch(served, text, how, dry_run=True)
    assert tried.configmap.data["b"] == "two"
    stored = await served.stub.Get(control_pb2.GetRequest(kind="cm", name="kept"))
    assert "b" not in stored.object.configmap.data, "a dry run stores nothing"
    done = await patch(served, text, how)
    assert done.configmap.data["b"] == "two"
    assert int(done.configmap.metadata.resourceVersion) > int(stored.object.configmap.metadata.resourceVersion)


@pytest.mark.parametrize(
    ("how", "text", "code", "words"),
    [
        (TYPES.MERGE, "", grpc.StatusCode.INVALID_ARGUMENT, "patch: is required"),
        (TYPES.MERGE, "[1]", grpc.StatusCode.INVALID_ARGUMENT, "mapping"),
        (TYPES.MERGE, "{datas: {}}", grpc.StatusCode.INVALID_ARGUMENT, 'did you mean "data"'),
        (TYPES.MERGE, "{metadata: {name: other}}", grpc.StatusCode.INVALID_ARGUMENT, "must stay 'kept'"),
        (TYPES.MERGE, "{kind: Secret}", grpc.StatusCode.INVALID_ARGUMENT, "kind: must stay ConfigMap"),
        (TYPES.JSON, "{a: 1}", grpc.StatusCode.INVALID_ARGUMENT, "list of operations"),
        (TYPES.JSON, '[{"op": "remove", "path": "/nope"}]', grpc.StatusCode.INVALID_ARGUMENT, "[0]: remove /nope: "),
        (
            TYPES.JSON,
            '[{"op": "swap", "path": "/data"}]',
            grpc.StatusCode.INVALID_ARGUMENT,
            "[0]: op must be one of add,",
        ),
        (TYPES.JSON, '[{"op": "test", "path": "/kind", "value": "x"}]', grpc.StatusCode.ABORTED, "test failed"),
        (TYPES.TYPE_UNSPECIFIED, "{}", grpc.StatusCode.INVALID_ARGUMENT, "STRATEGIC, MERGE or JSON"),
        (TYPES.MERGE, '{metadata: {resourceVersion: "1"}}', grpc.StatusCode.ABORTED, "changed since"),
    ],
)
async def test_faults_change_nothing(served: Served, how: int, text: str, code: grpc.StatusCode, words: str) -> None:
    made = await create(served, config("kept"))
    found, told = await refused(
        served.stub.Patch(TYPES(kind="cm", name="kept", type=how, patch=text))  # type: ignore[arg-type]
    )
    assert found is code and words in told
    now = await served.stub.Get(control_pb2.GetRequest(kind="cm", name="kept"))
    assert now.object.configmap == made


async def test_what_is_not_there(served: Served) -> None:
    code, text = await refused(served.stub.Patch(TYPES(kind="cm", name="none", type=TYPES.MERGE, patch="{}")))
    assert code is grpc.StatusCode.NOT_FOUND and '"none" not found' in text


async def test_many_at_once_all_get_through(served: Served) -> None:
    await create(served, config("kept"))
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(patch(served, f"{{data: {{k{number}: v}}}}", TYPES.MERGE))
    now = await served.stub.Get(control_pb2.GetRequest(kind="cm", name="kept"))
    assert {f"k{number}" for number in range(20)} <= set(now.object.configmap.data)
