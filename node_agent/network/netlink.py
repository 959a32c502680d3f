"""The kernel's side of a node's network: reads links, addresses, our routes and settings, and carries out steps."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import Conflict, Forbidden, SampanError, Unavailable
from node_agent.network import rtnetlink as rt
from node_agent.network.rtnetlink import Attributes, Netlink, NetlinkError, attribute, attributes, number, text, u32
from node_agent.network.steps import (
    PROTOCOL,
    AddAddress,
    Observed,
    PutForward,
    PutNeighbor,
    PutRoute,
    PutTunnel,
    RemoveForward,
    RemoveNeighbor,
    RemoveRoute,
    RemoveTunnel,
    Route,
    SetDefault,
    SetSysctl,
    Step,
    TurnBack,
    Way,
)
from node_agent.network.tunnel import Forward, Neighbor, Tunnel

_SYSCTLS = Path("/proc/sys")
_TABLE_MAIN = 254
_TABLE_LOCAL = 255
# rtnetlink(7), RTN_*: the sorts of route we make.
_KINDS = {1: "unicast", 2: "local", 7: "unreachable"}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
# rtnetlink(7): the next hop is on the link whatever the addresses say.
_ONLINK = 4
_UP = 1
# linux/neighbour.h: NUD_PERMANENT, and NUD_NOARP which entries of a tunnel's forwarding table have beside it;
# NTF_SELF: of the device itself, not of a bridge it is in.
_PERMANENT, _NOARP, _SELF = 0x80, 0x40, 0x02
_INET, _BRIDGE = socket.AF_INET, 7
# Scopes of a route: everywhere, this host (which the kernel insists on for local routes), whichever (to remove one).
_EVERYWHERE, _HOST, _WHICHEVER = 0, 254, 255
# rtm_protocol of what an administrator sets, as the engine's own default route has it.
_STATIC = 4
# Scope of 127.0.0.1 and of link-local addresses is another; only global ones are a node's addresses.
_SCOPE_GLOBAL = 0

# linux/if_link.h, IFLA_*, and what is in LINKINFO, in a VXLAN device's data and in a bridge's port.
_MAC, _NAME, _MTU, _MASTER, _PORT_INFO, _INFO, _MASK = 1, 3, 4, 10, 12, 18, 29
_KIND, _DATA, _PORT_DATA = 1, 2, 5
_VNI, _LEARNING, _VXLAN_PORT = 1, 7, 15
_HAIRPIN = 4
# Without a link's counters.
_NO_COUNTERS = attribute(_MASK, u32(8))
# rtnetlink(7): IFA_*, RTA_*, NDA_*.
_ADDRESS, _LOCAL = 1, 2
_DESTINATION, _OUT, _GATEWAY, _PRIORITY, _SOURCE, _MULTIPATH = 1, 4, 5, 6, 7, 9
_TO, _AT = 1, 2


@contextmanager
def _netlink(doing: str) -> Iterator[Netlink]:
    """A netlink socket; its errors leave as ours, saying what was being done."""
    try:
        with Netlink() as netlink:
            yield netlink
    except NetlinkError as error:
        raise _as_ours(error, doing) from error


def _as_ours(error: NetlinkError, doing: str) -> SampanError:
    text = f"{doing}: {error.args[-1]}"
    if error.code in (errno.EPERM, errno.EACCES):
        return Forbidden(f"{text}: the agent needs root, or the capability NET_ADMIN in a container")
    if error.code == errno.EEXIST:
        return Conflict(text)
    return Unavailable(text)


@dataclass(frozen=True)
class _Link:
    index: int
    name: str
    up: bool
    mtu: int
    mac: str
    master: int
    info: Attributes

    @property
    def one_way(self) -> bool:
        """A bridge's port that sends nothing back to where it came from."""
        return attributes(self.info.get(_PORT_DATA, b"")).get(_HAIRPIN) == b"\0"


def _links(netlink: Netlink) -> list[_Link]:
    return [
        _Link(
            index,
            text(held.get(_NAME)),
            bool(flags & _UP),
            number(held.get(_MTU)),
            held.get(_MAC, b"").hex(":"),
            number(held.get(_MASTER)),
            attributes(held.get(_INFO, b"")),
        )
        for (_, _, index, flags, _), held in netlink.dump(rt.GET_LINK, rt.LINK, 0, 0, 0, 0, 0, filter=_NO_COUNTERS)
    ]


def _ip(value: bytes | None) -> str:
    return socket.inet_ntoa(value) if value and len(value) == 4 else ""


def _addresses(netlink: Netlink) -> list[tuple[int, int, int, str]]:
    """Index of the device, prefix length, scope, address."""
    return [
        (index, prefix, scope, _ip(held.get(_LOCAL) or held.get(_ADDRESS)))
        for (family, prefix, _, scope, index), held in netlink.dump(rt.GET_ADDRESS, rt.ADDRESS, _INET, 0, 0, 0, 0)
        if family == _INET
    ]


async def observe(tunnel_name: str) -> Observed:
    """The state of this network namespace as far as a plan needs it. Raises Forbidden, Unavailable."""
    with _netlink("reading the network") as netlink:
        links = _links(netlink)
        names = {link.index: link.name for link in links}
        addresses: dict[str, set[str]] = {name: set() for name in names.values()}
        for index, prefix, _, ip in _addresses(netlink):
            if index in names and ip:
                addresses[names[index]].add(f"{ip}/{prefix}")
        routes: set[Route] = set()
        ways: list[Way] = []
        default_via, default_metric = "", -1
        for head, held in netlink.dump(rt.GET_ROUTE, rt.ROUTE, _INET, 0, 0, 0, 0, 0, 0, 0, 0):
            _, prefix, _, _, table, protocol, _, kind, _ = head
            if protocol == PROTOCOL and kind in _KINDS:
                routes.add(_route(head, held, names))
            elif table == _TABLE_MAIN and kind == _NUMBERS["unicast"]:
                ways.append(_way(prefix, held, names))
                metric = number(held.get(_PRIORITY))
                via = _ip(held.get(_GATEWAY)) if not prefix else ""
                if via and (default_metric < 0 or metric < default_metric):
                    default_via, default_metric = via, metric
        link = next((link for link in links if link.name == tunnel_name), None)
        forwards, neighbors = _entries(netlink, link.index) if link is not None else (set(), set())
    sysctls = ["net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"]
    sysctls += [f"net.ipv4.conf.{name}.rp_filter" for name in names.values()]
    return Observed(
        addresses={name: frozenset(ips) for name, ips in addresses.items()},
        routes=frozenset(routes),
        default_via=default_via,
        sysctls={name: value for name in sysctls if (value := read_sysctl(name))},
        mtus={link.name: link.mtu for link in links},
        ways=tuple(ways),
        tunnel=_tunnel(link) if link is not None else None,
        tunnel_up=link is None or link.up,
        forwards=frozenset(forwards),
        neighbors=frozenset(neighbors),
        one_way={link.name: names.get(link.master, "") for link in links if link.one_way},
    )


def _route(head: tuple[int, ...], held: Attributes, names: dict[int, str]) -> Route:
    kind = _KINDS[head[7]]
    return Route(
        kind=kind,
        destination=f"{_ip(held.get(_DESTINATION)) or '0.0.0.0'}/{head[1]}",
        via=_ip(held.get(_GATEWAY)),
        dev="" if kind == "unreachable" else names.get(number(held.get(_OUT)), ""),
        metric=number(held.get(_PRIORITY)),
        source=_ip(held.get(_SOURCE)),
        onlink=bool(head[8] & _ONLINK),
    )


def _way(prefix: int, held: Attributes, names: dict[int, str]) -> Way:
    hops = held.get(_MULTIPATH, b"")
    # A hop begins with its length, flags and weight; then comes its device.
    index = number(held.get(_OUT)) or number(hops[4:8])
    return Way(f"{_ip(held.get(_DESTINATION)) or '0.0.0.0'}/{prefix}", names.get(index, ""))


def _tunnel(link: _Link) -> Tunnel:
    """A device of the tunnel's name that is none has VNI 0, which no tunnel has: it is replaced."""
    vxlan = text(link.info.get(_KIND)) == "vxlan"
    data = attributes(link.info.get(_DATA, b"")) if vxlan else {}
    return Tunnel(
        name=link.name,
        vni=number(data.get(_VNI)) if not number(data.get(_LEARNING)) else 0,
        mac=link.mac,
        mtu=link.mtu,
        port=int.from_bytes(data.get(_VXLAN_PORT, b""), "big"),
    )


def _entries(netlink: Netlink, index: int) -> tuple[set[Forward], set[Neighbor]]:
    forwards, neighbors = set(), set()
    # The forwarding table is asked for as of a link, and answers as neighbours.
    request = struct.pack(rt.LINK, _BRIDGE, 0, index, 0, 0)
    for (_, at, *_), held in netlink.dump(rt.GET_NEIGHBOR, rt.NEIGHBOR, request=request):
        if at == index and _ip(held.get(_TO)):
            forwards.add(Forward(held.get(_AT, b"").hex(":"), _ip(held[_TO])))
    for (_, at, state, *_), held in netlink.dump(rt.GET_NEIGHBOR, rt.NEIGHBOR, _INET, 0, 0, 0, 0):
        if at == index and state & _PERMANENT:
            neighbors.add(Neighbor(_ip(held.get(_TO)), held.get(_AT, b"").hex(":")))
    return forwards, neighbors


async def global_addresses() -> list[tuple[str, str]]:
    """(device, ip) of every IPv4 address of global scope, in the kernel's order."""
    with _netlink("reading addresses") as netlink:
        found = [(index, ip) for index, _, scope, ip in _addresses(netlink) if scope == _SCOPE_GLOBAL]
        names = {index: _name(index) for index, _ in found}
        return [(names[index], ip) for index, ip in found]


async def apply(step: Step) -> None:
    """Carries out one step; done already counts as done. Raises Forbidden, Conflict, Unavailable."""
    match step:
        case SetSysctl(name=name, value=value):
            write_sysctl(name, value)
        case AddAddress(device, address):
            _add_address(device, address)
        case TurnBack(device):
            with _netlink(f"letting {device} send back what came from it") as netlink, _gone_already():
                head = struct.pack(rt.LINK, _BRIDGE, 0, _index(device), 0, 0)
                netlink.ask(rt.SET_LINK, 0, head, rt.nested(_PORT_INFO, attribute(_HAIRPIN, b"\1")))
        case PutRoute(route):
            with _netlink(f"setting the route {route.kind} {route.destination} {route.via}".rstrip()) as netlink:
                netlink.ask(rt.NEW_ROUTE, rt.CREATE | rt.REPLACE, *_spec(route))
        case RemoveRoute(route):
            with _netlink(f"removing the route {route.kind} {route.destination}") as netlink, _gone_already():
                netlink.ask(rt.DELETE_ROUTE, 0, *_spec(route, _WHICHEVER))
        case SetDefault(via):
            with _netlink(f"pointing the default route at {via}") as netlink:
                head = struct.pack(rt.ROUTE, _INET, 0, 0, 0, _TABLE_MAIN, _STATIC, _EVERYWHERE, _NUMBERS["unicast"], 0)
                gateway = attribute(_GATEWAY, socket.inet_aton(via))
                netlink.ask(rt.NEW_ROUTE, rt.CREATE | rt.REPLACE, head, gateway)
        case PutTunnel(tunnel):
            _put_tunnel(tunnel)
        case RemoveTunnel(name):
            with _netlink(f"removing the tunnel {name}") as netlink, _gone_already():
                netlink.ask(rt.DELETE_LINK, 0, struct.pack(rt.LINK, 0, 0, 0, 0, 0), _named(name))
        case PutForward(device, forward):
            with _netlink(f"sending {forward.mac} to {forward.address}") as netlink:
                netlink.ask(rt.NEW_NEIGHBOR, rt.CREATE | rt.REPLACE, *_forward(device, forward))
        case RemoveForward(device, forward):
            with _netlink(f"no longer sending {forward.mac} to {forward.address}") as netlink, _gone_already():
                netlink.ask(rt.DELETE_NEIGHBOR, 0, *_forward(device, forward))
        case PutNeighbor(device, neighbor):
            with _netlink(f"naming {neighbor.ip} as {neighbor.mac}") as netlink:
                netlink.ask(rt.NEW_NEIGHBOR, rt.CREATE | rt.REPLACE, *_neighbor(device, neighbor))
        case RemoveNeighbor(device, neighbor):
            with _netlink(f"forgetting {neighbor.ip}") as netlink, _gone_already():
                netlink.ask(rt.DELETE_NEIGHBOR, 0, *_neighbor(device, neighbor))


async def new_ports(bridge: Callable[[], str]) -> AsyncIterator[str]:
    """The devices that become ports of a bridge, for ever. What comes too quickly to be read is left out.

    `bridge` names it; it need not exist. Raises OSError.
    """
    known: set[int] = set()
    async for there, index, link in rt.link_news():
        if not there:
            known.discard(index)
        # A pod's link is told of some ten times while it comes and goes, and there are attributes by the dozen.
        elif index not in known and (master := rt.master_of(link)) and _name(master) == bridge():
            known.add(index)
            if name := _name(index):
                yield name


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise Unavailable(f"there is no network device {device}") from error


@contextmanager
def _gone_already() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
            raise


def _named(name: str) -> bytes:
    return attribute(_NAME, name.encode() + b"\0")


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _put_tunnel(tunnel: Tunnel) -> None:
    with _netlink(f"making the tunnel {tunnel.name}") as netlink:
        data = rt.nested(
            _DATA,
            attribute(_VNI, u32(tunnel.vni)),
            attribute(_VXLAN_PORT, tunnel.port.to_bytes(2, "big")),
            # What arrives from outside must not redirect traffic: only we say who is where.
            attribute(_LEARNING, b"\0"),
        )
        looks = attribute(_MAC, _mac(tunnel.mac)) + attribute(_MTU, u32(tunnel.mtu))
        info = rt.nested(_INFO, attribute(_KIND, b"vxlan"), data)
        try:
            head = struct.pack(rt.LINK, 0, 0, 0, 0, 0)
            netlink.ask(rt.NEW_LINK, rt.CREATE | rt.EXCLUSIVE, head, _named(tunnel.name), looks, info)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise Unavailable(f"this kernel has no VXLAN, which {tunnel.name} needs (module vxlan)") from error
            if error.code != errno.EEXIST:
                raise
        netlink.ask(rt.NEW_LINK, 0, struct.pack(rt.LINK, 0, 0, _index(tunnel.name), _UP, _UP), looks)


def _forward(device: str, forward: Forward) -> tuple[bytes, bytes, bytes]:
    head = struct.pack(rt.NEIGHBOR, _BRIDGE, _index(device), _PERMANENT | _NOARP, _SELF, 0)
    return head, attribute(_AT, _mac(forward.mac)), attribute(_TO, socket.inet_aton(forward.address))


def _neighbor(device: str, neighbor: Neighbor) -> tuple[bytes, bytes, bytes]:
    head = struct.pack(rt.NEIGHBOR, _INET, _index(device), _PERMANENT, 0, 0)
    return head, attribute(_TO, socket.inet_aton(neighbor.ip)), attribute(_AT, _mac(neighbor.mac))


def _add_address(device: str, address: str) -> None:
    ip, prefix = address.split("/")
    with _netlink(f"adding {address} to {device}") as netlink:
        head = struct.pack(rt.ADDRESS, _INET, int(prefix), 0, _SCOPE_GLOBAL, _index(device))
        held = socket.inet_aton(ip)
        try:
            netlink.ask(
                rt.NEW_ADDRESS, rt.CREATE | rt.EXCLUSIVE, head, attribute(_LOCAL, held), attribute(_ADDRESS, held)
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


def _spec(route: Route, scope: int = -1) -> tuple[bytes, bytes]:
    """A route's head and attributes; `scope` is what follows from its kind when it is left out."""
    local = route.kind == "local"
    if scope < 0:
        scope = _HOST if local else _EVERYWHERE
    ip, prefix = route.destination.split("/")
    table = _TABLE_LOCAL if local else _TABLE_MAIN
    flags = _ONLINK if route.onlink else 0
    head = struct.pack(rt.ROUTE, _INET, int(prefix), 0, 0, table, PROTOCOL, scope, _NUMBERS[route.kind], flags)
    values = attribute(_DESTINATION, socket.inet_aton(ip))
    if route.via:
        values += attribute(_GATEWAY, socket.inet_aton(route.via))
    if route.dev:
        values += attribute(_OUT, u32(_index(route.dev)))
    if route.metric:
        values += attribute(_PRIORITY, u32(route.metric))
    if route.source:
        values += attribute(_SOURCE, socket.inet_aton(route.source))
    return head, values


def read_sysctl(name: str) -> str:
    """The value of a kernel setting; empty when there is none of that name."""
    try:
        return _sysctl_path(name).read_text().strip()
    except OSError:
        return ""


def write_sysctl(name: str, value: str) -> None:
    """Raises Forbidden with what to do where /proc/sys is read-only, as in containers."""
    try:
        _sysctl_path(name).write_text(value)
    except OSError as error:
        raise Forbidden(
            f"{name} must be {value} and cannot be set here ({error.strerror}): "
            f"on a host run sysctl -w {name}={value}, for a container give it --sysctl {name}={value}"
        ) from error


def _sysctl_path(name: str) -> Path:
    """Device names may contain dots: only the dots around them separate."""
    if name.startswith("net.ipv4.conf."):
        device, setting = name.removeprefix("net.ipv4.conf.").rsplit(".", 1)
        return _SYSCTLS / "net/ipv4/conf" / device / setting
    return _SYSCTLS / name.replace(".", "/")
