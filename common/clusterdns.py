"""The cluster's domain and the address of its DNS; pure."""

from __future__ import annotations

from ipaddress import IPv4Network

CLUSTER_DOMAIN = "cluster.local"
# Host part of the DNS address in the service CIDR, as Kubernetes installations have it: 10.96.0.10.
DNS_HOST = 10


def dns_address(service_cidr: str) -> str:
    """Where every node's DNS server answers. ValueError when it is no IPv4 network."""
    return str(IPv4Network(service_cidr)[DNS_HOST])
