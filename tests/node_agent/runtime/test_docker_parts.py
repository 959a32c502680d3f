"""The pure parts of the Docker runtime."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest

from common.errors import Conflict, NotFound, SampanError, Unavailable
from node_agent.network.seam import GATEWAY_MODE, NetworkSpec
from node_agent.runtime.docker.config import container_body, sandbox_body
from node_agent.runtime.docker.engine import mapped, start_error
from node_agent.runtime.docker.images import registry_header, split_reference
from node_agent.runtime.docker.labels import identity_of, labels_of, name_of, seen_of, unix_time
from node_agent.runtime.docker.machine import busy_seconds
from node_agent.runtime.docker.networks import network_body, same_network
from node_agent.runtime.docker.selfcontainer import container_id, translate
from node_agent.runtime.seam import (
    ContainerSpec,
    Identity,
    Limits,
    Mount,
    Refused,
    RegistryAuth,
    SandboxSpec,
    State,
)

IDENTITY = Identity("main", "node-1", "default", "web", "0f3c9a12-77", "app", 3, 2, "abc", "10.0.0.9", "f00", 7)
ID = "ab" * 32


def test_identity_survives_labels() -> None:
    assert identity_of(labels_of(IDENTITY)) == IDENTITY
    assert identity_of({"other": "x"}) is None
    odd = {**labels_of(IDENTITY), "sampan.dev/attempt": "many"}
    found = identity_of(odd)
    assert found is not None and found.attempt == 0


def test_names() -> None:
    assert name_of(IDENTITY) == "sampan_main_node-1_default_web_app_0f3c9a12_3"
    assert name_of(dataclasses.replace(IDENTITY, container="")) == "sampan_main_node-1_default_web_sandbox_0f3c9a12_3"


def inspected(**state: object) -> dict[str, object]:
    return {
        "Id": ID,
        "Created": "2024-05-01T10:00:00.123456789Z",
        "Image": "sha256:1",
        "Config": {"Labels": labels_of(IDENTITY), "Image": "app:1"},
        "State": {"StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", **state},
    }


def test_running_container() -> None:
    seen = seen_of(inspected(Status="running", StartedAt="2024-05-01T10:00:01Z", FinishedAt="2024-05-01T09:00:00Z"))
    assert seen is not None
    assert (seen.state, seen.finished_at, seen.exit_code) == (State.RUNNING, 0.0, 0)
    assert seen.started_at - seen.created_at == pytest.approx(0.876544)


def test_container_that_could_not_start() -> None:
    seen = seen_of(inspected(Status="created", Error="no such file", ExitCode=127))
    assert seen is not None
    assert (seen.state, seen.exit_code, seen.started_at) == (State.EXITED, 127, 0.0)
    assert seen.finished_at == seen.created_at


def test_times_that_docker_swaps() -> None:
    seen = seen_of(
        inspected(Status="exited", StartedAt="2024-05-01T10:00:01.5Z", FinishedAt="2024-05-01T10:00:01.4Z", ExitCode=1)
    )
    assert seen is not None and seen.finished_at == seen.started_at


def test_stranger_is_not_seen() -> None:
    assert seen_of({"Id": ID, "Config": {"Labels": None}, "State": {}}) is None


def test_unix_time() -> None:
    assert unix_time("1970-01-01T00:00:01.500000000Z") == 1.5
    assert unix_time("1970-01-01T01:00:00+01:00") == 0.0
    assert unix_time("0001-01-01T00:00:00Z") == unix_time(None) == unix_time("") == 0.0


def test_sandbox_body() -> None:
    identity = dataclasses.replace(IDENTITY, container="")
    mounts = (Mount("volume", "mem", "/volumes/m"),)
    body = sandbox_body(SandboxSpec(identity, "web", "pods", (("1.2.3.4", "db"),), mounts))
    host = body["HostConfig"]
    assert (body["Hostname"], host["NetworkMode"], host["IpcMode"]) == ("web", "pods", "shareable")
    assert host["ExtraHosts"] == ["db:1.2.3.4"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["Mounts"] == [{"Type": "volume", "Source": "mem", "Target": "/volumes/m", "ReadOnly": False}]
    assert body["NetworkingConfig"]["EndpointsConfig"]["pods"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}


def test_body_of_a_container_that_stands_alone() -> None:
    identity = dataclasses.replace(IDENTITY, sandbox="")
    place = SandboxSpec(identity, "web", "pods", (("1.2.3.4", "db"),), (), "db.default.svc.cluster.local")
    body = container_body(ContainerSpec(identity, "app:1", alone=place))
    host = body["HostConfig"]
    assert (body["Hostname"], body["Domainname"]) == ("web", "db.default.svc.cluster.local")
    assert (host["NetworkMode"], host["IpcMode"], host["ExtraHosts"]) == ("pods", "private", ["db:1.2.3.4"])
    assert body["NetworkingConfig"]["EndpointsConfig"]["pods"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}
    joined = container_body(ContainerSpec(IDENTITY, "app:1"))
    assert joined["HostConfig"]["NetworkMode"] == "container:f00"
    assert "Hostname" not in joined and "NetworkingConfig" not in joined


def test_the_engines_own_resolver_is_left_out_where_nobody_asks_it() -> None:
    identity = dataclasses.replace(IDENTITY, sandbox="")
    place = SandboxSpec(identity, "web", "pods")
    own = ContainerSpec(identity, "app:1", alone=place, resolv_conf="nameserver 10.96.0.10\n")
    assert container_body(own, 20)["HostConfig"]["DnsOptions"] == ["ndots"]
    engines = ContainerSpec(identity, "app:1", alone=place)
    for spec, major in ((own, 0), (own, 25), (engines, 20)):
        assert "DnsOptions" not in container_body(spec, major)["HostConfig"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Address already in use", Conflict),
        ("network sampan-main not found", Conflict),
        ("endpoint with name x already exists in network sampan-main", Conflict),
        ('OCI runtime create failed: exec: "/network": no such file or directory', Refused),
        ("invalid mount config", Refused),
    ],
)
def test_what_a_refused_start_is_about(message: str, kind: type[SampanError]) -> None:
    assert type(start_error(message)) is kind


def test_sandbox_in_the_nodes_own_network() -> None:
    identity = dataclasses.replace(IDENTITY, container="")
    spec = SandboxSpec(identity, "node1", "", (("1.2.3.4", "db"),))
    body = sandbox_body(spec)
    assert body["HostConfig"]["NetworkMode"] == "host" and body["Hostname"] == "node1"
    assert "NetworkingConfig" not in body
    joined = sandbox_body(spec, "agent-id")
    assert joined["HostConfig"]["NetworkMode"] == "container:agent-id"
    # Docker refuses these two for a container that joins another one's network.
    assert "Hostname" not in joined and "ExtraHosts" not in joined["HostConfig"]


def test_container_body() -> None:
    spec = ContainerSpec(
        IDENTITY,
        "app:1",
        command=("run",),
        env=(("A", "1"),),
        working_dir="/w",
        user="1:2",
        mounts=(Mount("bind", "/h", "/c", create=True), Mount("bind", "/x", "/y", read_only=True)),
        limits=Limits(cpu_quota=400_000, cpu_shares=512, memory=1024),
        no_new_privileges=True,
        cap_add=("NET_ADMIN",),
        cap_drop=("ALL",),
    )
    body = container_body(spec)
    host = body["HostConfig"]
    assert host["NetworkMode"] == host["IpcMode"] == "container:f00"
    assert (host["CpuPeriod"], host["CpuQuota"], host["CpuShares"]) == (100_000, 400_000, 512)
    assert host["Memory"] == host["MemorySwap"] == 1024
    assert host["Binds"] == ["/h:/c:rw"]
    assert host["Mounts"] == [{"Type": "bind", "Source": "/x", "Target": "/y", "ReadOnly": True}]
    assert (host["CapAdd"], host["CapDrop"], host["SecurityOpt"]) == (["NET_ADMIN"], ["ALL"], ["no-new-privileges"])
    assert (body["Entrypoint"], body["Cmd"]) == (["run"], [])
    assert (body["Env"], body["User"], body["WorkingDir"]) == (["A=1"], "1:2", "/w")
    assert "Hostname" not in body


def test_arguments_alone_keep_the_entrypoint() -> None:
    body = container_body(ContainerSpec(IDENTITY, "app:1", args=("x",)))
    assert body["Cmd"] == ["x"] and "Entrypoint" not in body
    assert "Cmd" not in container_body(ContainerSpec(IDENTITY, "app:1"))


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (900, "Cannot connect", Unavailable),
        (503, "not yet", Unavailable),
        (404, "No such container: x", NotFound),
        (409, "name in use", Conflict),
        (500, "containerd: connection refused", Unavailable),
        (500, "exec: not found", Refused),
        (400, "bad option", Refused),
    ],
)
def test_errors(status: int, message: str, error: type[SampanError]) -> None:
    assert type(mapped(status, message)) is error


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1.25", ("nginx", "1.25")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:2", ("host:5000/a/b", "2")),
        ("a@sha256:ff", ("a", "sha256:ff")),
    ],
)
def test_split_reference(reference: str, expected: tuple[str, str]) -> None:
    assert split_reference(reference) == expected


def test_registry_header() -> None:
    header = registry_header(RegistryAuth("host:5000", "joe", "pw"))
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "serveraddress": "host:5000", "username": "joe", "password": "pw",
    }  # fmt: skip


SPEC = NetworkSpec("pods", "10.0.0.0/24", "10.0.0.1", "10.0.0.254", {"l": "1"}, {GATEWAY_MODE: "x", "o": "1"})


def test_network_body_leaves_the_gateway_mode_out_for_old_engines() -> None:
    old, new = network_body(SPEC, "20.10.24+dfsg1"), network_body(SPEC, "28.1.0")
    assert old["Options"] == {"o": "1"}
    assert new["Options"] == {GATEWAY_MODE: "x", "o": "1"}
    assert old["IPAM"]["Config"] == [
        {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.0.0.254"}}
    ]


def test_same_network() -> None:
    body = network_body(SPEC, "20.10")
    found = {"IPAM": body["IPAM"], "Labels": {**body["Labels"], "more": "x"}, "Options": body["Options"]}
    assert same_network(found, SPEC)
    assert not same_network(found, dataclasses.replace(SPEC, gateway="10.0.0.2"))
    assert not same_network(found, dataclasses.replace(SPEC, aux_gateway=None))
    assert not same_network({**found, "Labels": None}, SPEC)
    assert not same_network({**found, "IPAM": None}, SPEC)


def test_own_container() -> None:
    mountinfo = (
        "1 2 0:1 / / rw - overlay overlay rw\n"
        f"5 1 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
    )
    assert container_id(mountinfo, "") == ID
    assert container_id("", f"5:cpu:/docker/{ID}\n") == ID
    assert container_id("", f"0::/system.slice/docker-{ID}.scope\n") == ID
    assert container_id("1 2 0:1 / / rw - ext4 x rw\n", "0::/\n") is None


def test_paths_of_our_mounts() -> None:
    mounts = [
        {"Destination": "/var/lib/sampan", "Source": "/var/lib/docker/volumes/v/_data"},
        {"Destination": "/var/lib/sampan/deep", "Source": "/elsewhere"},
        {"Destination": "/var", "Source": "/host/var"},
    ]
    assert translate("/var/lib/sampan/pods/x", mounts) == "/var/lib/docker/volumes/v/_data/pods/x"
    assert translate("/var/lib/sampan/deep/y", mounts) == "/elsewhere/y"
    assert translate("/var/lib/sampan", mounts) == "/var/lib/docker/volumes/v/_data"
    assert translate("/var/lib/sampanx", mounts) == "/host/var/lib/sampanx"
    assert translate("/etc", mounts) is None


def test_busy_seconds() -> None:
    text = "cpu  100 20 30 5000 400 5 6 7 8 9\ncpu0 1 2 3\n"
    assert busy_seconds(text, 100) == pytest.approx(1.68)
