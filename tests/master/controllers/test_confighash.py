"""The hash changes with the data a template names, and with nothing else."""

from __future__ import annotations

from typing import Any

from master.controllers.confighash import ASK, config_hash, references
from protos import core_pb2
from tests.master.controllers.deployment.world import deployment

Held = dict[tuple[str, str, str], Any]


def spec() -> core_pb2.PodSpec:
    made = core_pb2.PodSpec()
    container = made.containers.add(name="app")
    container.env.add(name="A").valueFrom.configMapKeyRef.localObjectReference.name = "one"
    container.envFrom.add().secretRef.localObjectReference.name = "two"
    made.volumes.add(name="v").volumeSource.configMap.localObjectReference.name = "three"
    projected = made.volumes.add(name="p").volumeSource.projected.sources.add()
    projected.secret.localObjectReference.name, projected.secret.optional = "four", True
    return made


def held() -> Held:
    def config(name: str) -> core_pb2.ConfigMap:
        return core_pb2.ConfigMap(metadata=core_pb2.ObjectMeta(name=name), data={"k": name})

    secret = core_pb2.Secret(metadata=core_pb2.ObjectMeta(name="two"), data={"k": b"two"})
    return {
        ("ConfigMap", "default", "one"): config("one"),
        ("ConfigMap", "default", "three"): config("three"),
        ("Secret", "default", "two"): secret,
    }


def test_only_the_data_counts() -> None:
    objects = held()
    before = config_hash(spec(), "default", objects.get)
    assert before
    objects["ConfigMap", "default", "one"].metadata.labels["new"] = "label"
    assert config_hash(spec(), "default", objects.get) == before
    objects["Secret", "default", "two"].data["k"] = b"changed"
    assert config_hash(spec(), "default", objects.get) not in (before, None, "")


def test_what_is_missing() -> None:
    objects = held()
    before = config_hash(spec(), "default", objects.get)
    optional = core_pb2.Secret(metadata=core_pb2.ObjectMeta(name="four"), data={"k": b"four"})
    objects["Secret", "default", "four"] = optional
    assert config_hash(spec(), "default", objects.get) not in (before, None)
    del objects["ConfigMap", "default", "three"]
    assert config_hash(spec(), "default", objects.get) is None
    assert config_hash(core_pb2.PodSpec(), "default", objects.get) == ""


def test_only_workloads_that_ask_are_looked_up() -> None:
    found = deployment()
    found.spec.template.spec.CopyFrom(spec())
    assert list(references(found)) == []
    found.metadata.annotations[ASK] = "true"
    assert set(references(found)) == {*held(), ("Secret", "default", "four")}
    service = core_pb2.Service()
    service.metadata.annotations[ASK] = "true"
    assert list(references(service)) == []
