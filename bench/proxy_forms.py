"""Brings up the forms that bench.proxy compares, each idle until it is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.proxy_peers import PORTS, Peer, _envoy, _haproxy, _nginx, _sampan, backend, wait_for
from bench.proxy_sampan import cpu_seconds
from bench.proxy_space import ENDPOINT, ENVOY, HERE, ONE_RULE, Space, another, row
from bench.proxy_turns import AWAY, BASELINE, DIRECT, NFTABLES, SAMPAN, UNTRACKED, Form
from bench.proxy_turns import ONE_RULE as RULE

Started = tuple[int, Callable[[], None]]


class Forms:
    """What runs. Forms with rules in the kernel have a namespace each, so that no other form's packets pass them."""

    def __init__(self, directory: Path, baseline: Path | None = None) -> None:
        self.peers: dict[str, Peer] = {}
        self._directory, self._baseline = directory, baseline
        self._stops: list[Callable[[], None]] = []

    def start(self, wanted: Sequence[Form]) -> None:
        """All of them; Envoy is left out where it is not to be had. SystemExit when one does not come up."""
        HERE.track()
        self._stops.append(backend(self._directory))
        for number, form in enumerate(wanted):
            if form.name.startswith("Envoy") and not ENVOY.exists():
                continue
            address = f"10.96.0.{10 + number}"
            client, space = self._spaces(form.name)
            pid, stop = self._start(form.name, address, space)
            self._stops.append(stop)
            if form.name.startswith(DIRECT):
                address = ENDPOINT
            carries = pid if NFTABLES not in form.name else 0
            peer = Peer(form.name, address, carries, stop, form.bulk_only, client)
            wait_for(peer)
            self.peers[form.name] = peer

    def stop(self) -> None:
        """Ends all that was started."""
        for stop in reversed(self._stops):
            stop()

    def idle_cost(self, seconds: float) -> dict[str, float]:
        """The share of one processor that each form uses while nobody asks it for anything."""
        before = {name: cpu_seconds(peer.pid) for name, peer in self.peers.items() if peer.pid}
        time.sleep(seconds)
        return {name: (cpu_seconds(self.peers[name].pid) - was) / seconds for name, was in before.items()}

    def _spaces(self, name: str) -> tuple[Space, Space]:
        """Where the client is, and where what carries; the endpoint is reached from there."""
        if AWAY in name:
            client, space, end = row()
        elif name in (NFTABLES, RULE, UNTRACKED) or name.startswith((SAMPAN, BASELINE)):
            client = space = end = another()
        else:
            return HERE, HERE
        if name != UNTRACKED:
            space.track()
        self._stops.append(backend(self._directory, end))
        return client, space

    def _start(self, name: str, address: str, space: Space) -> Started:
        directory, cores = self._directory, os.cpu_count() or 1
        many = cores if str(cores) in name.rpartition(",")[2].split() else 1
        if name.startswith(SAMPAN):
            return _sampan(directory, address, many, space=space)
        if name.startswith(BASELINE):
            return _sampan(directory, address, many, space=space, tree=self._baseline)
        if name.startswith("HAProxy"):
            return _haproxy(directory, address, 1 if "1 thread" in name else cores, splice="splice" in name)
        if name.startswith("nginx"):
            return _nginx(directory, address, cores)
        if name.startswith("Envoy"):
            return _envoy(directory, address, cores)
        if name.startswith(NFTABLES):
            return _sampan(directory, address, 1, "nftables", space=space)
        if name.startswith(RULE):
            space.rules(ONE_RULE % (address, ", ".join(map(str, PORTS)), ENDPOINT))
        return 0, lambda: None
