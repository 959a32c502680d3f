"""A pod's /etc/resolv.conf, by Kubernetes' dnsPolicy and dnsConfig; pure but for reading the node's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from common import resolvconf
from common.resolvconf import ResolvConf, is_loopback
from protos.core_pb2 import Pod

# Kubernetes' figures.
_NDOTS = "ndots:5"
_MAX_SEARCHES, _MAX_SEARCH_CHARACTERS = 32, 2048

HOST_RESOLV_CONF = Path("/etc/resolv.conf")


def read_host(path: Path = HOST_RESOLV_CONF) -> ResolvConf:
    """The node's own; an empty one when there is none."""
    try:
        return resolvconf.parse(path.read_text(errors="replace"))
    except OSError:
        return ResolvConf()


def pod_resolv_conf(pod: Pod, cluster_dns: str, domain: str, read: Callable[[], ResolvConf] = read_host) -> str:
    """The file's text; empty when the engine's own copy of the node's is right. `cluster_dns` may be empty: none.

    `read` gives the node's own, where that is needed. A resolver of the node's on a loopback address cannot be reached
    from a pod: the cluster's DNS, which asks it, stands in.
    """
    spec = pod.spec
    policy = spec.dnsPolicy or "ClusterFirst"
    if policy == "None":
        base = ResolvConf()
    elif cluster_dns and (policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.hostNetwork)):
        host = read()
        own = (f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain)
        base = ResolvConf((cluster_dns,), (*own, *host.searches), (_NDOTS,))
    elif spec.hostNetwork or not cluster_dns:
        if not spec.HasField("dnsConfig"):
            return ""
        base = read()
    else:
        host = read()
        reachable = tuple(address for address in host.nameservers if not is_loopback(address))
        base = ResolvConf(reachable or (cluster_dns,), host.searches, host.options)
    config = spec.dnsConfig
    added = [f"{option.name}:{option.value}" if option.value else option.name for option in config.options]
    return resolvconf.render(
        ResolvConf(
            tuple(dict.fromkeys((*base.nameservers, *config.nameservers)))[: resolvconf.MAX_NAMESERVERS],
            _searches((*base.searches, *config.searches)),
            _options((*base.options, *added)),
        )
    )


def _searches(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, as many as resolvers read."""
    kept: list[str] = []
    for name in dict.fromkeys(name.rstrip(".") or "." for name in names):
        if len(kept) == _MAX_SEARCHES or len(" ".join([*kept, name])) > _MAX_SEARCH_CHARACTERS:
            break
        kept.append(name)
    return tuple(kept)


def _options(options: Sequence[str]) -> tuple[str, ...]:
    """The last word on each option counts."""
    return tuple({option.partition(":")[0]: option for option in options}.values())
