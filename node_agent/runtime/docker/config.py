"""Our specs as the JSON bodies of Docker's create calls; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node_agent.runtime.docker.labels import labels_of
from node_agent.runtime.sandbox_image import PROGRAM, REFERENCE
from node_agent.runtime.seam import ContainerSpec, Mount, SandboxSpec

# cgroup period that Limits.cpu_quota counts in, microseconds.
_CPU_PERIOD = 100_000
# Engines up to this one leave their own resolver out of a container's network when they cannot make sense of this
# option of its resolv.conf (libnetwork, rebuildDNS; they note it in their log). Pods have the cluster's and never ask
# that one, and to set it up is a fifth of what a start costs the engine. Seen on 20.10; later engines are not asked to.
RESOLVER_UNTIL = 24
_NO_RESOLVER = "ndots"
# Docker restarts nothing: the agent does, with a new container whose labels count.
_NO_RESTART = {"Name": "no"}


def sandbox_body(spec: SandboxSpec, own: str = "") -> dict[str, Any]:
    """The body of POST /containers/create for a sandbox.

    `own` is the container the agent runs in, if it does: that is the node whose network a pod may live in.
    """
    body: dict[str, Any] = {
        "Image": REFERENCE,
        "Entrypoint": [PROGRAM],
        # It hears nothing else; without this an engine that shuts down waits ten seconds for it.
        "StopSignal": "SIGKILL",
        "Labels": labels_of(spec.identity),
        "HostConfig": {
            "NetworkMode": spec.network or (f"container:{own}" if own else "host"),
            "IpcMode": "shareable",
            "RestartPolicy": _NO_RESTART,
            "LogConfig": {"Type": "none"},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            **_mounts(spec.mounts),
        },
    }
    if spec.network or not own:
        # Who joins another container's network has its names, too.
        _put_names(body, spec)
    if spec.network:
        _put_address(body, spec)
    return body


def _put_names(body: dict[str, Any], spec: SandboxSpec) -> None:
    body |= {"Hostname": spec.hostname, "Domainname": spec.domainname}
    body["HostConfig"]["ExtraHosts"] = [f"{name}:{ip}" for ip, name in spec.hosts]


def _put_address(body: dict[str, Any], spec: SandboxSpec) -> None:
    endpoint = {"IPAMConfig": {"IPv4Address": spec.identity.ip}}
    body["NetworkingConfig"] = {"EndpointsConfig": {spec.network: endpoint}}


def container_body(
    spec: ContainerSpec, engine_major: int = 0, log_config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of POST /containers/create for a pod's container; `engine_major` is 0 when it is not known.

    Without `log_config` the engine's own way with logs holds.
    """
    shared = f"container:{spec.identity.sandbox}"
    host: dict[str, Any] = {
        "NetworkMode": shared if spec.alone is None else spec.alone.network,
        "IpcMode": shared if spec.alone is None else "private",
        "RestartPolicy": _NO_RESTART,
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only_root,
        **_mounts(spec.mounts),
    }
    if log_config:
        host["LogConfig"] = dict(log_config)
    if spec.no_new_privileges:
        host["SecurityOpt"] = ["no-new-privileges"]
    if spec.cap_add:
        host["CapAdd"] = list(spec.cap_add)
    if spec.cap_drop:
        host["CapDrop"] = list(spec.cap_drop)
    if spec.limits.cpu_quota:
        # Not NanoCpus: Docker refuses more of them than the machine has, Kubernetes does not.
        host["CpuPeriod"], host["CpuQuota"] = _CPU_PERIOD, spec.limits.cpu_quota
    if spec.limits.cpu_shares:
        host["CpuShares"] = spec.limits.cpu_shares
    if spec.limits.memory:
        host["Memory"] = host["MemorySwap"] = spec.limits.memory
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": labels_of(spec.identity),
        "Env": [f"{name}={value}" for name, value in spec.env],
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "HostConfig": host,
    }
    # As in Kubernetes: a command also drops the image's own arguments.
    if spec.command:
        body["Entrypoint"], body["Cmd"] = list(spec.command), list(spec.args)
    elif spec.args:
        body["Cmd"] = list(spec.args)
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if spec.user:
        body["User"] = spec.user
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    if spec.stdin_once:
        body["StdinOnce"] = True
    if spec.alone is not None:
        _put_names(body, spec.alone)
        _put_address(body, spec.alone)
        if spec.resolv_conf and 0 < engine_major <= RESOLVER_UNTIL:
            host["DnsOptions"] = [_NO_RESOLVER]
    return body


def _mounts(mounts: tuple[Mount, ...]) -> dict[str, Any]:
    # Docker makes a missing source for "Binds" and refuses one in "Mounts".
    binds = [f"{m.source}:{m.target}:{'ro' if m.read_only else 'rw'}" for m in mounts if m.kind == "bind" and m.create]
    strict = [
        {"Type": m.kind, "Source": m.source, "Target": m.target, "ReadOnly": m.read_only}
        for m in mounts
        if not (m.kind == "bind" and m.create)
    ]
    return {key: value for key, value in (("Binds", binds), ("Mounts", strict)) if value}
