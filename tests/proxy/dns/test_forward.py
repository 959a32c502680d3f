"""Questions to real servers on loopback: retries, TCP, strangers' answers, silence, and the same question once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.dns import message as dns
from proxy.dns.forward import Forwarder
from proxy.dns.message import Message, Question, name_of
from proxy.dns.resolvers import Resolvers
from tests.proxy.dns.support import Answering, Upstream, a, descriptors_as_before, says, shown
from tests.proxy.support import free_port, own_address

ASKED = Question(name_of("www.Example.com"), dns.A)
GOOD = says(a("www.example.com", "192.0.2.7"))


class Net:
    """Upstream servers on addresses of their own, one port; and a forwarder that knows `addresses`."""

    def __init__(self, directory: Path) -> None:
        self.addresses = [own_address(), own_address()]
        self.port = free_port(self.addresses[0])
        self.upstreams: list[Upstream] = []
        self._path = directory / "resolv.conf"

    def serve(self, index: int, answer: Answering) -> Upstream:
        made = Upstream(self.addresses[index], answer, self.port)
        self.upstreams.append(made)
        return made

    def forwarder(self, count: int = 2, timeout: float = 10.0) -> Forwarder:
        self._path.write_text("".join(f"nameserver {address}\n" for address in self.addresses[:count]))
        resolvers = Resolvers(self._path, asyncio.get_running_loop().time, self.port)
        self.made = Forwarder(resolvers, timeout=timeout)
        return self.made


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    made = Net(tmp_path)
    yield made
    for upstream in made.upstreams:
        await upstream.close()
    await made.made.close()


async def test_an_answer_is_fetched_once_and_kept(net: Net) -> None:
    upstream = net.serve(0, GOOD)
    forwarder = net.forwarder()
    with descriptors_as_before():
        replies = await asyncio.gather(*(forwarder.ask(ASKED) for _ in range(20)))
        replies.append(await forwarder.ask(replace(ASKED, name=name_of("WWW.example.COM"))))
    assert {tuple(shown(reply.answers)) for reply in replies} == {("www.example.com A 192.0.2.7",)}
    assert len(upstream.asked) == 1
    assert upstream.asked[0].edns is not None


async def test_ids_and_ports_cannot_be_guessed(net: Net) -> None:
    upstream = net.serve(0, says())
    forwarder = net.forwarder()
    for _ in range(30):
        await forwarder.ask(ASKED)
    assert len({asked.id for asked in upstream.asked}) > 25
    assert len(set(upstream.ports)) > 15


async def test_a_dead_server_costs_nothing_and_goes_last(net: Net) -> None:
    upstream = net.serve(1, says())
    forwarder = net.forwarder(timeout=30.0)
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert (await forwarder.ask(ASKED)).rcode == dns.NOERROR
    assert loop.time() - start < 10
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("first", [says(rcode=dns.SERVFAIL), says(rcode=dns.REFUSED), lambda _: None])
async def test_the_next_server_is_asked(net: Net, first: Answering) -> None:
    net.serve(0, first)
    net.serve(1, GOOD)
    assert (await net.forwarder(timeout=3.0).ask(ASKED)).answers


async def test_a_lost_packet_is_asked_again(net: Net) -> None:
    lost: list[Message] = []

    def loses(asked: Message) -> Message | bytes | None:
        if not lost:
            lost.append(asked)
            return None
        return GOOD(asked)

    net.serve(0, loses)
    assert (await net.forwarder(1, timeout=3.0).ask(ASKED)).answers


@pytest.mark.parametrize(
    "stranger",
    [
        lambda asked: replace(asked, id=asked.id ^ 1, flags=dns.QR),
        lambda asked: replace(asked, flags=dns.QR, question=Question(name_of("evil.example"), dns.A)),
        lambda asked: replace(asked, flags=dns.RD),
    ],
)
async def test_an_answer_to_something_else_is_not_heard(net: Net, stranger: Callable[[Message], Message]) -> None:
    net.serve(0, lambda asked: dns.build(stranger(asked)))
    with descriptors_as_before():
        assert (await net.forwarder(1, timeout=0.2).ask(ASKED)).rcode == dns.SERVFAIL
        await asyncio.sleep(0)


async def test_silence_is_servfail_in_time_and_is_not_kept(net: Net) -> None:
    upstream = net.serve(0, lambda _: None)
    forwarder = net.forwarder(1, timeout=0.3)
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert (await forwarder.ask(ASKED)).rcode == dns.SERVFAIL
    assert 0.25 < loop.time() - start < 10
    upstream.answer = GOOD
    async with asyncio.timeout(30):
        # Asked again each time: of what is kept nothing would change.
        while (await forwarder.ask(ASKED)).rcode != dns.NOERROR:
            pass


async def test_no_resolver_knows_nothing_at_once(net: Net) -> None:
    assert (await net.forwarder(0).ask(ASKED)).rcode == dns.NXDOMAIN


async def test_a_cut_answer_is_fetched_by_tcp(net: Net) -> None:
    upstream = net.serve(0, says(*(a("www.example.com", f"192.0.2.{i}") for i in range(200))))
    reply = await net.forwarder(1).ask(ASKED)
    assert (len(reply.answers), upstream.over_tcp) == (200, 1)


async def test_a_server_without_edns(net: Net) -> None:
    def old(asked: Message) -> Message | bytes | None:
        if asked.edns is None:
            return GOOD(asked)
        header = bytearray(dns.build(replace(asked, edns=None))[:12])
        header[2:12] = (dns.QR | dns.FORMERR).to_bytes(2, "big") + bytes(8)
        return bytes(header)

    net.serve(0, old)
    assert (await net.forwarder(1).ask(ASKED)).answers


async def test_who_gives_up_takes_the_answer_from_nobody(net: Net) -> None:
    net.serve(0, lambda _: None)
    upstream = net.upstreams[0]
    forwarder = net.forwarder(1, timeout=3.0)

    async def hurried() -> None:
        async with asyncio.timeout(0.05):
            await forwarder.ask(ASKED)

    patient = asyncio.gather(forwarder.ask(ASKED), hurried(), return_exceptions=True)
    while not upstream.asked:
        await asyncio.sleep(0.005)
    upstream.answer = GOOD
    replies = await patient
    assert isinstance(replies[1], TimeoutError)
    assert isinstance(replies[0], Message) and replies[0].answers


async def test_an_unreachable_network_is_servfail_at_once(net: Net) -> None:
    net.addresses[0] = "255.255.255.255"  # refused by the kernel: no broadcast on this socket
    assert (await net.forwarder(1).ask(ASKED)).rcode == dns.SERVFAIL
