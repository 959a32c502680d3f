"""A pod's containers as the runtime's specs: limits, user, security, command line; pure."""

from __future__ import annotations

from collections.abc import Mapping

from common.quantity import milli, value
from node_agent.pods.env import expand, expand_all
from node_agent.pods.model import FAILED_SANDBOX, ConfigError, PlaceError
from node_agent.runtime.seam import ContainerSpec, Identity, Limits, Mount, SandboxSpec
from protos.core_pb2 import Container, Pod

# Kubernetes' figures: microseconds per period and the least of each.
_CPU_PERIOD, _MIN_CPU_QUOTA = 100_000, 1_000
_SHARES_PER_CPU, _MIN_SHARES, _MAX_SHARES = 1024, 2, 262_144
_HOSTNAME_LENGTH = 63
# What the kernel keeps.
_FULL_HOSTNAME_LENGTH = 64
RESOLV_CONF = "/etc/resolv.conf"


def limits_of(container: Container) -> Limits:
    """cgroup figures by Kubernetes' formulas; a request that is not set is the limit."""
    limits = {name: one.value for name, one in container.resources.limits.items()}
    requests = {name: one.value for name, one in container.resources.requests.items()}
    cpu_limit = milli(limits["cpu"]) if "cpu" in limits else 0
    cpu_request = milli(requests["cpu"]) if "cpu" in requests else cpu_limit
    shares = max(_MIN_SHARES, min(_MAX_SHARES, cpu_request * _SHARES_PER_CPU // 1000))
    quota = max(_MIN_CPU_QUOTA, cpu_limit * _CPU_PERIOD // 1000) if cpu_limit else 0
    return Limits(cpu_quota=quota, cpu_shares=shares, memory=value(limits["memory"]) if "memory" in limits else 0)


def user_of(pod: Pod, container: Container, image_user: str) -> str:
    """Docker's "user:group", empty for the image's own; the container's securityContext wins over the pod's."""
    pod_context, context = pod.spec.securityContext, container.securityContext
    user = group = ""
    for source in (pod_context, context):
        if source.HasField("runAsUser"):
            user = str(source.runAsUser)
        if source.HasField("runAsGroup"):
            group = str(source.runAsGroup)
    if not group:
        return user
    return f"{user or image_user.partition(':')[0] or '0'}:{group}"


def sandbox_spec(
    pod: Pod, identity: Identity, network: str, mounts: tuple[Mount, ...], cluster_domain: str = "cluster.local"
) -> SandboxSpec:
    """The sandbox of a pod: its hostname is the pod's name, cut to what a hostname may be.

    With a subdomain it also has a domain name, that of the headless service it names; as part of the hostname, where
    the pod says so. In the node's own network it has the node's name. Raises PlaceError: the name is too long.
    """
    hosts = tuple((alias.ip, name) for alias in pod.spec.hostAliases for name in alias.hostnames)
    hostname = (pod.spec.hostname or pod.metadata.name)[:_HOSTNAME_LENGTH].rstrip("-.")
    subdomain = pod.spec.subdomain
    domain = f"{subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}" if subdomain else ""
    if pod.spec.hostNetwork:
        return SandboxSpec(identity, identity.node, "", hosts, mounts)
    if domain and pod.spec.setHostnameAsFQDN:
        full = f"{hostname}.{domain}"
        if len(full) > _FULL_HOSTNAME_LENGTH:
            rule = f"must be a name of at most {_FULL_HOSTNAME_LENGTH} characters, got {len(full)}"
            raise PlaceError(FAILED_SANDBOX, f"spec.setHostnameAsFQDN: {rule}: {full}")
        return SandboxSpec(identity, full, network, hosts, mounts)
    return SandboxSpec(identity, hostname, network, hosts, mounts, domain)


def container_spec(
    pod: Pod,
    container: Container,
    identity: Identity,
    env: Mapping[str, str],
    mounts: tuple[Mount, ...],
    image_user: str = "",
    resolv_conf: str = "",
    alone: SandboxSpec | None = None,
) -> ContainerSpec:
    """What to run for one container; `alone`: the sandbox it is itself. Raises ConfigError for a mount path that is

    taken twice.
    """
    targets = [mount.target for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise ConfigError(f"container {container.name}: volumeMounts: {target} is mounted twice")
    context = container.securityContext
    escalation_off = context.HasField("allowPrivilegeEscalation") and not context.allowPrivilegeEscalation
    return ContainerSpec(
        identity=identity,
        image=container.image,
        command=expand_all(container.command, env),
        args=expand_all(container.args, env),
        env=tuple(env.items()),
        working_dir=expand(container.workingDir, env),
        mounts=mounts,
        user=user_of(pod, container, image_user),
        tty=container.tty,
        stdin=container.stdin,
        limits=limits_of(container),
        privileged=context.privileged,
        read_only_root=context.readOnlyRootFilesystem,
        no_new_privileges=escalation_off,
        cap_add=tuple(context.capabilities.add),
        cap_drop=tuple(context.capabilities.drop),
        # Who mounts a file of one's own there has it.
        resolv_conf="" if RESOLV_CONF in targets else resolv_conf,
        stop_signal=container.lifecycle.stopSignal,
        message_path=container.terminationMessagePath,
        stdin_once=container.stdinOnce,
        alone=alone,
    )
