"""What a user would ask about is told: Events of nodes, pods and containers, counted, through a real session."""

from __future__ import annotations

from pathlib import Path

from node_agent.runtime.script import Behaviour
from node_agent.runtime.seam import ContainerSpec
from tests.integration.simulated import Cluster, eventually


def crash(spec: ContainerSpec) -> Behaviour:
    return Behaviour(exits_after=0.05, exit_code=7)


async def test_a_crashing_container_and_its_node_are_told(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        node = cluster.node("n1")
        node.script.behave = crash
        node.start()
        await cluster.until_ready("n1")
        await cluster.master.pod("looping", "n1")

        def reasons(kind: str, name: str) -> set[tuple[str, str]]:
            events = cluster.master.store.list("Event")
            about = [
                event for event in events if (event.involvedObject.kind, event.involvedObject.name) == (kind, name)
            ]
            return {(event.type, event.reason) for event in about}

        wanted = {("Normal", reason) for reason in ("Pulling", "Pulled", "Created", "Started")}
        await eventually(lambda: reasons("Pod", "looping") >= {*wanted, ("Warning", "BackOff")}, 60)
        await eventually(lambda: ("Normal", "NodeReady") in reasons("Node", "n1"))

        node.script.down = True
        await eventually(lambda: ("Warning", "NodeNotReady") in reasons("Node", "n1"), 60)
