"""Which host ports are in use on which node: of one number and protocol, each address of the node can be given once.

Kubernetes' rule (HostPortInfo of its scheduler): no address, or 0.0.0.0, is all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protos import core_pb2

Port = tuple[str, int, str]
"""Protocol, number, and the one address of the node that it is bound to; "" for all."""
_EVERYWHERE = ("", "0.0.0.0")


def host_ports(containers: Iterable[core_pb2.Container]) -> Iterator[Port]:
    """The host ports of these containers."""
    for container in containers:
        for port in container.ports:
            if port.hostPort:
                yield port.protocol or "TCP", port.hostPort, "" if port.hostIP in _EVERYWHERE else port.hostIP


def clash(one: Port, other: Port) -> bool:
    """Whether a node cannot give both."""
    return one[:2] == other[:2] and (one[2] == other[2] or not one[2] or not other[2])


def told(port: Port) -> str:
    """As a person reads it: `80/TCP`, `10.0.0.5:80/TCP`."""
    protocol, number, address = port
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{number}/{protocol}" if address else f"{number}/{protocol}"


class PortBook:
    """Who uses which port on which row; of several that share one (bound by hand) it knows one."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, int], dict[int, dict[str, str]]] = {}

    def take(self, port: Port, row: int, user: str) -> None:
        self._users.setdefault(port[:2], {}).setdefault(row, {})[port[2]] = user

    def give(self, port: Port, row: int) -> None:
        """It is free; nothing happens when it was."""
        rows = self._users.get(port[:2], {})
        there = rows.get(row, {})
        there.pop(port[2], None)
        if not there and rows.pop(row, None) is not None and not rows:
            del self._users[port[:2]]

    def user(self, port: Port, row: int) -> str | None:
        """Who keeps this port from others there, or None."""
        there = self._users.get(port[:2], {}).get(row, {})
        if port[2]:
            return there.get(port[2], there.get(""))
        return next(iter(there.values()), None)

    def rows(self, port: Port) -> Iterator[int]:
        """Rows that cannot give the port."""
        for row, there in self._users.get(port[:2], {}).items():
            if not port[2] or port[2] in there or "" in there:
                yield row
