"""Which pod of this node has which address; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from common.errors import SampanError


class NoAddress(SampanError):
    """Every address of the node's pod network is in use."""

    reason = "NoAddress"


@dataclass
class PodAddresses:
    """Addresses `first` to `last`, both included. Freed ones are given out again as late as possible,

    so that a peer with an old routing table does not reach another pod.
    """

    first: IPv4Address
    last: IPv4Address
    _by_uid: dict[str, IPv4Address] = field(default_factory=dict)
    _refused: dict[IPv4Address, float] = field(default_factory=dict)
    _next: int = 0

    @property
    def size(self) -> int:
        return int(self.last) - int(self.first) + 1

    def get(self, uid: str) -> str:
        """The pod's address, empty when it has none."""
        return str(self._by_uid.get(uid, ""))

    def holds(self, ip: str) -> bool:
        """Whether the address is one that pods get; a pod in the node's own network has the node's."""
        return self.first <= IPv4Address(ip) <= self.last

    def adopt(self, uid: str, ip: str) -> bool:
        """Books what a running pod has already. False when it lies outside or another pod has it."""
        address = IPv4Address(ip)
        if not self.first <= address <= self.last:
            return False
        if any(other == address and owner != uid for owner, other in self._by_uid.items()):
            return False
        self._by_uid[uid] = address
        self._next = max(self._next, int(address) - int(self.first) + 1) % self.size
        return True

    def take(self, uid: str, now: float) -> str:
        """The pod's address, a new one if it has none. Raises NoAddress."""
        if uid in self._by_uid:
            return str(self._by_uid[uid])
        used = set(self._by_uid.values())
        for step in range(self.size):
            address = self.first + (self._next + step) % self.size
            if address not in used and self._refused.get(address, 0.0) <= now:
                self._next = (self._next + step + 1) % self.size
                self._by_uid[uid] = address
                return str(address)
        raise NoAddress(f"all {self.size} pod addresses of this node ({self.first}-{self.last}) are in use")

    def release(self, uid: str) -> None:
        self._by_uid.pop(uid, None)

    def refuse(self, uid: str, until: float) -> None:
        """Takes the pod's address away: somebody else on the network has it. Not given out before `until`."""
        address = self._by_uid.pop(uid, None)
        if address is not None:
            self._refused[address] = until
