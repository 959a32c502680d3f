"""What harnesses that run side by side must not share: an index (names, addresses) and the engines' data folders."""

from __future__ import annotations

import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.harness.images import CACHE

PREFIX = "sampan-t"
MOST = 64


def state_root() -> Path:
    """The folder of all harnesses of this machine; short, because unix socket paths end at 107 characters."""
    return Path(tempfile.gettempdir()) / "sampan-harness"


class Claim:
    """An exclusive file lock that ends with this process, however it ends."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Gives it back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True)
class Addresses:
    """The names and addresses of harness number `index`: 10.213.`index`.0/24 on its fabric.

    .1 is the test itself (the machine's own namespace), .10 the master, .11 and on the hosts. On a second link, where
    there is one, the hosts have the same numbers in 10.213.`128 + index`.0/24; .254 on both is the router between.
    """

    index: int

    @property
    def fabric(self) -> str:
        return f"{PREFIX}{self.index}-fabric"

    @property
    def master_netns(self) -> str:
        return f"{PREFIX}{self.index}-master"

    @property
    def router_netns(self) -> str:
        return f"{PREFIX}{self.index}-router"

    def host_netns(self, number: int) -> str:
        return f"{PREFIX}{self.index}-node{number}"

    @property
    def test_link(self) -> str:
        return f"{PREFIX}{self.index}"

    @property
    def cgroup(self) -> str:
        return f"{PREFIX}{self.index}"

    @property
    def subnet(self) -> str:
        return f"10.213.{self.index}.0/24"

    def address(self, last: int, link: int = 1) -> str:
        return f"10.213.{self.index if link == 1 else 128 + self.index}.{last}"

    def link_subnet(self, link: int) -> str:
        return self.address(0, link) + "/24"

    def router_address(self, link: int) -> str:
        return self.address(254, link)

    @property
    def test_address(self) -> str:
        return self.address(1)

    @property
    def master_address(self) -> str:
        return self.address(10)

    def host_address(self, number: int, link: int = 1) -> str:
        return self.address(10 + number, link)

    @property
    def state(self) -> Path:
        return state_root() / str(self.index)


def claim_index() -> tuple[Addresses, Claim]:
    """An index that no living harness of this machine holds; raises RuntimeError when all are taken.

    Each process begins to look at another one: an index that was just given back stays free for a while, so that a
    test can still look at what it left.
    """
    for index in ((os.getpid() + step) % MOST for step in range(MOST)):
        try:
            return Addresses(index), Claim(state_root() / f"{index}.lock")
        except BlockingIOError:
            continue
    raise RuntimeError(f"all {MOST} harness indexes are taken: python -m tests.harness.cleanup removes the dead ones")


def claim_data_root() -> tuple[Path, Claim]:
    """An engine's data folder of its own, kept from earlier runs where there is one: its images need no loading."""
    for number in range(1000):
        folder = CACHE / "engines" / str(number)
        try:
            claim = Claim(folder.with_suffix(".lock"))
        except BlockingIOError:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        return folder, claim
    raise RuntimeError("a thousand engines at once")
