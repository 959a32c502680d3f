"""Who may call: every RPC of every service, from near by, from afar, with and without a token."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from common.errors import Unauthenticated
from master.api.access import OPEN, Access, admin_token, default_gateways, parse_trust, peer_address
from protos import agent_pb2, control_pb2

ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010011AC	0003	0	0	0	00000000	0	0	0
eth0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
"""

ACCESS = Access("secret", [ipaddress.ip_network("172.17.0.1")])
GOOD, BAD = [("authorization", "Bearer secret")], [("authorization", "Bearer other")]


@pytest.mark.parametrize(
    ("peer", "metadata", "allowed"),
    [
        ("ipv4:127.0.0.1:5000", [], True),
        ("ipv4:127.9.9.9:5000", [], True),
        ("ipv6:[::1]:5000", [], True),
        ("ipv6:%5B::1%5D:5000", [], True),
        ("ipv6:[::ffff:127.0.0.1]:5000", [], True),
        ("unix:", [], True),
        ("unix:/run/x.sock", [], True),
        ("ipv4:172.17.0.1:5000", [], True),
        ("ipv4:172.17.0.2:5000", [], False),
        ("ipv4:8.8.8.8:5000", [], False),
        ("ipv6:[2001:db8::1]:5000", [], False),
        ("ipv4:8.8.8.8:5000", GOOD, True),
        ("ipv4:8.8.8.8:5000", [("authorization", "bearer  secret")], True),
        ("ipv4:8.8.8.8:5000", BAD, False),
        ("ipv4:8.8.8.8:5000", [("authorization", "Basic secret")], False),
        ("ipv4:8.8.8.8:5000", [("authorization", "secret")], False),
        ("ipv4:127.0.0.1:5000", BAD, False),
        ("", [], False),
        ("nonsense", [], False),
    ],
)
def test_callers(peer: str, metadata: list[tuple[str, str]], allowed: bool) -> None:
    if allowed:
        ACCESS.check(peer, metadata)
        return
    with pytest.raises(Unauthenticated, match="SAMPAN_TOKEN or --token"):
        ACCESS.check(peer, metadata)


def test_only_node_and_health_services_are_open() -> None:
    nodes = agent_pb2.DESCRIPTOR.services_by_name["NodeService"]
    users = control_pb2.DESCRIPTOR.services_by_name["ControlPlane"]
    assert all(f"/{nodes.full_name}/{method.name}".startswith(OPEN) for method in nodes.methods)
    assert not any(f"/{users.full_name}/{method.name}".startswith(OPEN) for method in users.methods)
    assert not "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".startswith(OPEN)


def test_trusted_networks(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(ROUTES)
    found = parse_trust(["gateway", "10.0.0.0/8", "192.168.1.7"], routes)
    assert [str(network) for network in found] == ["172.17.0.1/32", "10.0.0.0/8", "192.168.1.7/32"]
    assert default_gateways(tmp_path / "none") == []
    with pytest.raises(ValueError, match="'gateway' or a network"):
        parse_trust(["everyone"], routes)


def test_peers() -> None:
    assert str(peer_address("ipv6:[fe80::1%eth0]:1")) == "fe80::1"
    assert peer_address("unix:") is None


def test_the_admin_token_is_made_once_and_private(tmp_path: Path) -> None:
    token = admin_token(tmp_path)
    assert admin_token(tmp_path) == token and len(token) > 30
    assert (tmp_path / "admin.token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["admin.token"]
    with pytest.raises(ValueError, match="must not be empty"):
        Access("")
