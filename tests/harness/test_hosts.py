"""The harness itself: hosts, their engines and network, every fault, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import BUSYBOX, CommandFailed, Host, Hosts, eventually, run
from tests.harness.process import pids_in_netns
from tests.harness.remains import pids_in_cgroup
from tests.harness.slots import Addresses
from tests.harness.snapshot import NOTHING, leftovers

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.root, pytest.mark.docker]


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    async with Hosts(3) as found:
        yield found
    assert await leftovers(found.addresses) == NOTHING


async def reaches(host: Host, address: str) -> bool:
    try:
        await host.run(["busybox", "ping", "-c", "1", "-W", "2", address])
    except CommandFailed:
        return False
    return True


async def reached(host: Host, address: str) -> None:
    await eventually(lambda: reaches(host, address), within=60, what=f"{host.name} reaches {address}")


async def test_every_host_runs_containers_with_limits(hosts: Hosts) -> None:
    async def one(host: Host) -> str:
        return await host.docker("run", "--rm", "--memory", "32m", "--cpus", "0.5", BUSYBOX, "echo", host.name)

    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(one(hosts[i])) for i in range(len(hosts))]
    assert [answer.result() for answer in answers] == ["node1", "node2", "node3"]


async def test_hosts_reach_each_other_and_nothing_else(hosts: Hosts) -> None:
    await reached(hosts[0], hosts[2].address)
    # A port of a host answers the test itself, too.
    serve = "echo hi > /tmp/index.html; httpd -f -p 8765 -h /tmp"
    await hosts[1].docker("run", "-d", "--network", "host", BUSYBOX, "sh", "-c", serve)
    url = f"http://{hosts[1].address}:8765/"

    async def answers() -> str:
        return await run(["curl", "-s", "--noproxy", "*", "--max-time", "15", url])

    assert await eventually(answers, within=60, what="httpd answers") == "hi\n"
    for outside in ("192.0.2.1", "10.96.0.10", "10.244.7.1"):
        with pytest.raises(CommandFailed, match=r"unreachable|No route"):
            await hosts[0].run(["ip", "route", "get", outside])


async def test_pods_networks_of_two_hosts_can_be_joined_by_routes(hosts: Hosts) -> None:
    for number in (0, 1):
        await hosts[number].docker("network", "create", "--subnet", f"10.244.{number}.0/24", "pods")
        await hosts[number].run(["iptables", "-I", "DOCKER-USER", "-j", "ACCEPT"])
        other = 1 - number
        await hosts[number].run(["ip", "route", "add", f"10.244.{other}.0/24", "via", hosts[other].address])
    await hosts[1].docker("run", "-d", "--network", "pods", "--ip", "10.244.1.9", BUSYBOX, "sleep", "1000")
    await hosts[0].docker("run", "--rm", "--network", "pods", BUSYBOX, "ping", "-c", "1", "-W", "30", "10.244.1.9")


@pytest.mark.parametrize("keep_carrier", [False, True])
async def test_a_cut_host_is_unreachable_until_restored(hosts: Hosts, keep_carrier: bool) -> None:
    await hosts[1].cut(keep_carrier=keep_carrier)
    assert not await reaches(hosts[0], hosts[1].address)
    assert not await reaches(hosts[1], hosts[0].address)
    await reached(hosts[0], hosts[2].address)
    # Its engine does not need the network.
    await hosts[1].docker("run", "--rm", BUSYBOX, "true")
    await hosts[1].restore()
    await eventually(lambda: reaches(hosts[0], hosts[1].address), within=60, what="node2 is back")


async def test_a_killed_engine_leaves_containers_running_and_comes_back(hosts: Hosts) -> None:
    host = hosts[0]
    await host.docker("run", "-d", "--name", "kept", "--stop-timeout", "1", BUSYBOX, "sleep", "1000")
    before = pids_in_cgroup(host.cgroup)
    assert before
    await host.kill_engine()
    with pytest.raises(CommandFailed):
        await host.docker("ps")
    assert pids_in_cgroup(host.cgroup) == before
    await host.start_engine()
    assert [c["Names"] for c in await host.containers()] == ["kept"]


async def test_a_power_cut_ends_everything_and_a_boot_brings_back_stopped_containers(hosts: Hosts) -> None:
    host = hosts[0]
    await host.docker("run", "-d", "--name", "kept", BUSYBOX, "sleep", "1000")
    await host.kill()
    assert not host.up
    assert pids_in_netns(host.netns) == pids_in_cgroup(host.cgroup) == set()
    assert not await reaches(hosts[1], host.address)
    await host.boot()
    assert [(c["Names"], c["State"]) for c in await host.containers()] == [("kept", "exited")]
    await reached(hosts[1], host.address)
    await host.docker("start", "kept")


async def test_an_engine_that_cannot_start_says_why_and_leaves_nothing() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with Hosts(1, engine_options=["--no-such-option"]) as hosts:
            pytest.fail(f"{hosts} came up")
    assert "unknown flag: --no-such-option" in str(caught.value.exceptions[0])


async def test_an_engine_that_gave_up_on_a_busy_machine_is_started_again(tmp_path: Path) -> None:
    async with Hosts(1) as hosts:
        host, tried = hosts[0], tmp_path / "tried"
        await host.engine.stop(timeout=60)
        said = "failed to start containerd: timeout waiting for containerd to start"
        once = f'if [ -e {tried} ]; then exec "$@"; fi; touch {tried}; echo {said} >&2; exit 1'
        host.engine.command = ["sh", "-c", once, "sh", *host.engine.command]
        await host.start_engine()
        assert tried.exists() and await host.containers() == []


async def test_two_harnesses_side_by_side() -> None:
    async with Hosts(1) as first, Hosts(1) as second:
        assert first.addresses.index != second.addresses.index
        await second[0].docker("run", "-d", "--name", "mine", BUSYBOX, "sleep", "1000")
        assert await first[0].containers() == []
        assert not await reaches(first[0], second[0].address)


async def test_a_failing_block_leaves_nothing() -> None:
    hosts = Hosts(1)

    async def fail() -> None:
        async with hosts:
            await hosts[0].docker("run", "-d", BUSYBOX, "sleep", "1000")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await leftovers(hosts.addresses) == NOTHING


_VICTIM = """
import asyncio
from tests.harness import BUSYBOX, Hosts

async def main():
    async with Hosts(2) as hosts:
        await hosts[0].docker("run", "-d", "--memory", "32m", BUSYBOX, "sleep", "1000")
        print(hosts.addresses.index, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_the_cleanup_tool_removes_what_a_killed_test_left(number: signal.Signals) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _VICTIM, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert victim.stdout is not None
    async with asyncio.timeout(120):
        addresses = Addresses(int(await victim.stdout.readline()))
    assert (await leftovers(addresses)).processes
    os.kill(victim.pid, number)
    async with asyncio.timeout(120):
        await victim.communicate()
    if number == signal.SIGKILL:
        assert (await leftovers(addresses)).processes
        said = await run([sys.executable, "-m", "tests.harness.cleanup"], timeout=120)
        assert str(addresses.index) in said
    assert await leftovers(addresses) == NOTHING
