"""The cluster of docker-compose.yml under a name, ports and addresses of its own, on the machine's own engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness import run
from tests.harness.parts import BIN, clean_environment
from tests.harness.slots import Claim, state_root
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
NODES = ("node1", "node2", "node3")
# Beside the harness's addresses (10.213.0.0/16) and the pods of a `make up` (10.244.0.0/16).
_FIRST_RANGE, _MOST = 220, 16


class Compose:
    """`async with Compose() as cluster`: up, not yet Ready; nothing of it is left after the block."""

    def __init__(self) -> None:
        self._claim, number = _claim_number()
        self.name = f"sampan-test-{number}"
        self.cidr = f"10.{_FIRST_RANGE + number}.0.0/16"
        self.master_port, *ports = _free_ports(1 + len(NODES))
        self.ports = dict(zip(NODES, ports, strict=True))
        settings = {f"SAMPAN_{node.upper()}_PORT": str(port) for node, port in self.ports.items()}
        self._environment = clean_environment(
            SAMPAN_CLUSTER=self.name,
            SAMPAN_CLUSTER_CIDR=self.cidr,
            SAMPAN_MASTER_PORT=str(self.master_port),
            SAMPAN_MASTER=f"127.0.0.1:{self.master_port}",
            **settings,
        )

    async def __aenter__(self) -> Self:
        # What a run under this name left that was killed: nobody living holds the claim.
        await self.down()
        try:
            await self.compose("up", "-d", "--no-build", timeout=120)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                print(await self.compose("logs", "--tail", "40", check=False), file=sys.stderr)
        finally:
            await self.down()
            self._claim.release()

    async def compose(self, *words: str, timeout: float = 60.0, check: bool = True) -> str:
        """`docker compose` as the scripts call it, on this cluster's project."""
        script = '. scripts/lib.sh; ensure_compose >&2; compose "$@"'
        command = ["bash", "-c", f"cd {ROOT} && {script}", "compose", *words]
        return await run(command, timeout=timeout, check=check, env=self._environment)

    async def down(self) -> None:
        """`make down`, of this cluster, leaving the engine as it is."""
        await run([str(ROOT / "scripts" / "down"), "--keep-engine"], timeout=120, env=self._environment)

    async def sampan(self, *words: str, input: str | None = None, timeout: float = 90.0) -> str:
        """The CLI against this cluster; its standard output. Raises CommandFailed."""
        return await run([str(BIN / "sampan"), *words], input=input, timeout=timeout, env=self._environment)

    async def get(self, *words: str) -> list[dict[str, Any]]:
        """The objects of a kind, or one, as manifests."""
        answer = json.loads(await self.sampan("get", *words, "-o", "json"))
        return list(answer["items"]) if "items" in answer else [answer]

    async def ready(self) -> list[str]:
        """The names of the nodes that are Ready, in order."""
        return sorted(
            node["metadata"]["name"]
            for node in await self.get("nodes")
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))
        )

    async def curl(self, node: str) -> str:
        """What the example service answers at a node's published port."""
        url = f"http://127.0.0.1:{self.ports[node]}/"
        return (await run(["curl", "-sS", "--noproxy", "*", "--max-time", "15", url])).strip()

    async def container(self, node: str) -> str:
        """The id of a node's (or the master's) own container."""
        return (await self.compose("ps", "-a", "-q", node)).strip()

    async def pod_containers(self, *filters: str) -> dict[str, str]:
        """Ids of the running containers of this cluster's pods, sandboxes too, by name."""
        words = [word for each in filters for word in ("--filter", f"label=sampan.dev/{each}")]
        label = f"label=sampan.dev/cluster={self.name}"
        said = await docker("ps", "--no-trunc", "--filter", label, *words, "--format", "{{.Names}} {{.ID}}")
        return dict(line.split() for line in said.splitlines())

    async def web_containers(self) -> dict[str, str]:
        """Of these, those of the example service's pods: what another test has deleted may take a moment to go."""
        return {name: id for name, id in (await self.pod_containers("pod-name")).items() if "_web-" in name}

    async def remains(self) -> list[str]:
        """Everything on the engine that carries this cluster's name or label."""
        found = []
        for label in (f"sampan.dev/cluster={self.name}", f"com.docker.compose.project={self.name}"):
            filter = ("--filter", f"label={label}")
            found += (await docker("ps", "-a", *filter, "--format", "container {{.Names}}")).splitlines()
            found += (await docker("network", "ls", *filter, "--format", "network {{.Name}}")).splitlines()
            found += (await docker("volume", "ls", *filter, "--format", "volume {{.Name}}")).splitlines()
        # By name, too: something that got no label would be found by nobody.
        for what in ("ps -a", "network ls", "volume ls"):
            named = await docker(*what.split(), "--format", "{{.Name}}" if "ls" in what else "{{.Names}}")
            mine = (name for name in named.split() if self.name in name.split("_") or name.startswith(f"{self.name}-"))
            found += [f"{what}: {name}" for name in mine]
        routes = await run(["ip", "-4", "route", "show", "table", "all"])
        return found + [line for line in routes.splitlines() if f" {self.cidr.split('.0.0/')[0]}." in f" {line}"]


async def docker(*words: str) -> str:
    """The docker client against the machine's own engine."""
    return await run(["docker", *words], timeout=60)


def _claim_number() -> tuple[Claim, int]:
    for number in range(_MOST):
        try:
            return Claim(state_root() / f"compose-{number}.lock"), number
        except BlockingIOError:
            continue
    raise RuntimeError(f"{_MOST} compose clusters are under test at once")


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now; all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
