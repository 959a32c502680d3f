"""One service port at work: its balancer, and what happened to its endpoints, for the dialer and for status."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from common.routing import Endpoint
from proxy.balancer import Balancer, Share, balancer, update
from proxy.plan import PortKey, Serving


class EndpointState:
    """Counts of one endpoint; lives on while connections to a removed endpoint do."""

    __slots__ = ("_service", "connections", "endpoint", "error", "failed_at", "failures", "served")

    def __init__(self, endpoint: Endpoint, service: ServicePort) -> None:
        self.endpoint = endpoint
        self.connections = 0
        self.served = 0
        self.failures = 0
        self.error = ""  # of the last failure
        self.failed_at = 0.0  # loop time
        self._service = service

    def closed(self) -> None:
        """A connection counted by `ServicePort.opened` is over."""
        self.connections -= 1
        self._service.closed(self)


class Drains:
    """Connections that removed endpoints still have, over all service ports."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._left: dict[tuple[str, int], int] = {}

    def add(self, endpoint: Endpoint, connections: int) -> None:
        """More of them, or fewer."""
        if not connections:
            return
        place = (endpoint.ip, endpoint.port)
        left = self._left.get(place, 0) + connections
        if left > 0:
            self._left[place] = left
        else:
            self._left.pop(place, None)
        self._on_change()

    def counts(self) -> list[tuple[str, int, int]]:
        """Address, port, connections; only those that have some."""
        return [(ip, port, count) for (ip, port), count in sorted(self._left.items())]


class ServicePort:
    """What every listener of one service port shares: the rotation, so that all addresses take turns together."""

    __slots__ = ("_drains", "_states", "balancer", "failures", "key", "name", "refused", "retries", "serving")

    def __init__(self, name: PortKey, serving: Serving, drains: Drains, share: Share | None = None) -> None:
        """`share`: what this worker has in common with others; None: it takes turns by itself."""
        self.name = name
        self.key = name.key
        self.serving = serving
        self.balancer = self._new_balancer(share)
        self.retries = 0
        self.refused = 0
        self.failures = 0  # of endpoints that have left, too
        self._states: dict[Endpoint, EndpointState] = {}
        self._drains = drains

    def _new_balancer(self, share: Share | None) -> Balancer:
        start = random.randrange(1 << 16)
        made = balancer(self.serving.balance, self.serving.affinity_seconds, start, share)
        update(made, self.serving.endpoints, share)
        return made

    @property
    def port_name(self) -> str:
        return self.serving.name

    def update(self, serving: Serving, share: Share | None = None) -> None:
        """New connections go only to these from now on; established ones are left alone."""
        old, self.serving = self.serving, serving
        before = self.balancer
        left = {endpoint for endpoint in self._states if endpoint not in before}
        if (old.balance, old.affinity_seconds) == (serving.balance, serving.affinity_seconds):
            update(before, serving.endpoints, share)
        else:
            self.balancer = self._new_balancer(share)
        for endpoint, state in list(self._states.items()):
            if endpoint in self.balancer:
                if endpoint in left:
                    self._drains.add(endpoint, -state.connections)
                continue
            if endpoint not in left:
                self._drains.add(endpoint, state.connections)
            if not state.connections:
                del self._states[endpoint]

    def withdraw(self) -> None:
        """The service port is gone; what is established goes on."""
        self.update(
            Serving(
                self.serving.name,
                self.serving.uid,
                (),
                balance=self.serving.balance,
                affinity_seconds=self.serving.affinity_seconds,
            )
        )

    def opened(self, endpoint: Endpoint) -> EndpointState:
        """A connection to the endpoint, which is still one of the set, was established; say when it is `closed`."""
        state = self._state(endpoint)
        state.connections += 1
        state.served += 1
        self.balancer.succeeded(endpoint)
        return state

    def closed(self, state: EndpointState) -> None:
        """One of its connections is over."""
        endpoint = state.endpoint
        self.balancer.released(endpoint)
        if endpoint not in self.balancer:
            self._drains.add(endpoint, -1)
            if not state.connections:
                del self._states[endpoint]

    def failed(self, endpoint: Endpoint, now: float, why: str) -> None:
        """A connect to the endpoint failed."""
        self.failures += 1
        if endpoint in self.balancer:
            state = self._state(endpoint)
            state.failures += 1
            state.error, state.failed_at = why, now
        self.balancer.failed(endpoint, now)

    def served(self, endpoint: Endpoint) -> None:
        """The endpoint has answered one that is not counted as a connection (UDP)."""
        if endpoint in self.balancer:
            self._state(endpoint).served += 1
            self.balancer.succeeded(endpoint)

    def _state(self, endpoint: Endpoint) -> EndpointState:
        state = self._states.get(endpoint)
        if state is None:
            state = self._states[endpoint] = EndpointState(endpoint, self)
        return state

    def status(self, now: float) -> dict[str, Any]:
        """For `sampan proxy status`; endpoints that only drain have `removed` true."""
        drained = [endpoint for endpoint in self._states if endpoint not in self.balancer]
        entries = []
        for endpoint in [*sorted(self.balancer.endpoints), *sorted(drained)]:
            state = self._states.get(endpoint) or EndpointState(endpoint, self)
            entries.append(
                {
                    "ip": endpoint.ip,
                    "port": endpoint.port,
                    "connections": state.connections,
                    "served": state.served,
                    "failures": state.failures,
                    "lastError": state.error,
                    "lastErrorSeconds": round(now - state.failed_at, 3) if state.error else 0.0,
                    "coolingSeconds": round(max(0.0, self.balancer.cooling_until(endpoint) - now), 3),
                    "removed": endpoint not in self.balancer,
                }
            )
        return {
            "key": self.key,
            "port": self.port_name,
            "protocol": self.name.protocol,
            "outside": self.name.outside,
            "retries": self.retries,
            "refused": self.refused,
            "endpoints": entries,
        }
