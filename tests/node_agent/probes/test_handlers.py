"""Single questions and what comes of them, put to scripted containers."""

from __future__ import annotations

import pytest

from common.errors import NotFound
from node_agent.probes.handlers import (
    WELL,
    Handlers,
    Lingering,
    Outcome,
    Target,
    Verdict,
    http_request,
    port_number,
    redirected,
)
from node_agent.runtime.script import Answer, Asked, Script
from node_agent.runtime.seam import ContainerSpec, Identity, SandboxSpec
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.runtime.stdio import HttpAnswer, HttpRequest
from protos.core_pb2 import Container, HTTPGetAction, ProbeHandler

IP = "10.0.0.2"


async def make_target(answers: dict[str, Answer]) -> tuple[SimulatedRuntime, Target]:
    def answer(asked: Asked) -> Answer:
        return answers.get(asked.detail, Answer(code=200 if asked.what == "http" else 0))

    runtime = SimulatedRuntime("c", "n", Script(answer=answer), images=("app:1",))
    box = Identity("c", "n", "default", "web", "uid-1", ip=IP)
    sandbox = await runtime.create_sandbox(SandboxSpec(box, "web", "net"))
    identity = Identity("c", "n", "default", "web", "uid-1", "a", ip=IP, sandbox=sandbox)
    id = await runtime.create_container(ContainerSpec(identity, "app:1"))
    await runtime.start(id)
    container = Container(name="a")
    container.ports.add(name="http", containerPort=8080)
    return runtime, Target(id, container, IP)


def http(path: str = "/", **fields: str) -> ProbeHandler:
    handler = ProbeHandler()
    handler.httpGet.path = path
    handler.httpGet.port.type, handler.httpGet.port.strVal = 1, "http"
    for name, value in fields.items():
        setattr(handler.httpGet, name, value)
    return handler


def command(*words: str) -> ProbeHandler:
    handler = ProbeHandler()
    handler.exec.command.extend(words)
    return handler


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, WELL),
        (399, WELL),
        (400, Outcome(Verdict.FAILED, "HTTP probe failed with statuscode: 400")),
        (503, Outcome(Verdict.FAILED, "HTTP probe failed with statuscode: 503")),
    ],
)
async def test_http_goes_by_the_status(status: int, expected: Outcome) -> None:
    runtime, target = await make_target({f"http://{IP}:8080/up": Answer(code=status)})
    assert await Handlers(runtime).probe(target, http("/up"), 5) == expected


async def test_nobody_listens() -> None:
    runtime, target = await make_target({f"{IP}:81": Answer(code=1), f"{IP}:82/db": Answer(code=1)})
    handlers = Handlers(runtime)
    tcp, grpc = ProbeHandler(), ProbeHandler()
    tcp.tcpSocket.port.intVal = 80
    assert await handlers.probe(target, tcp, 5) == WELL
    tcp.tcpSocket.port.intVal = 81
    refused = Outcome(Verdict.FAILED, f"dial tcp {IP}:81: connect: connection refused")
    assert await handlers.probe(target, tcp, 5) == refused
    grpc.grpc.port, grpc.grpc.service = 82, "db"
    assert (await handlers.probe(target, grpc, 5)).message == 'service unhealthy (responded with "NOT_SERVING")'
    outcome = await handlers.probe(target, http(host="10.0.0.9"), 5)
    assert outcome.message.startswith('Get "http://10.0.0.9:8080/": dial tcp')


async def test_time_runs_out() -> None:
    slow = Answer(seconds=3600)
    answers = {f"http://{IP}:8080/": slow, f"{IP}:81": slow, f"{IP}:82/": slow, "sleep 9": slow}
    runtime, target = await make_target(answers)
    handlers = Handlers(runtime)
    tcp, grpc = ProbeHandler(), ProbeHandler()
    tcp.tcpSocket.port.intVal, grpc.grpc.port = 81, 82
    for handler, words in (
        (http(), "context deadline exceeded"),
        (tcp, f"dial tcp {IP}:81: i/o timeout"),
        (grpc, "health rpc did not complete within 0.01s"),
        (command("sleep", "9"), 'command timed out: "sleep 9" after 0.01s'),
    ):
        outcome = await handlers.probe(target, handler, 0.01)
        assert outcome.verdict is Verdict.FAILED and words in outcome.message


async def test_exec_goes_by_the_exit_code() -> None:
    answers = {"bad": Answer(code=2, output="one\n", error="two\n"), "mute": Answer(code=3)}
    runtime, target = await make_target(answers)
    handlers = Handlers(runtime)
    assert await handlers.probe(target, command("good"), 5) == WELL
    assert await handlers.probe(target, command("bad"), 5) == Outcome(Verdict.FAILED, "one\ntwo")
    assert await handlers.probe(target, command("mute"), 5) == Outcome(Verdict.FAILED, "command exited with code 3")
    long = {"talk": Answer(code=1, output="x" * 50_000)}
    runtime, target = await make_target(long)
    assert len((await Handlers(runtime).probe(target, command("talk"), 5)).message) == 10 * 1024


async def test_a_command_that_cannot_be_ended_is_not_started_again() -> None:
    class Deathless:
        over = False

        async def ended(self) -> bool:
            return self.over

    runtime, target = await make_target({})
    handlers, left = Handlers(runtime), Deathless()
    lingering = Lingering(left)  # type: ignore[arg-type]
    outcome = await handlers.probe(target, command("check"), 5, lingering)
    assert outcome.verdict is Verdict.FAILED and "has not ended yet" in outcome.message
    left.over = True
    assert await handlers.probe(target, command("check"), 5, lingering) == WELL


async def test_errors_are_no_answers() -> None:
    runtime, target = await make_target({})
    handlers = Handlers(runtime)
    unknown = http()
    unknown.httpGet.port.strVal = "admin"
    outcome = await handlers.probe(target, unknown, 5)
    assert outcome.verdict is Verdict.ERROR and "couldn't find port: admin" in outcome.message
    await runtime.kill(target.id)
    assert (await handlers.probe(target, command("check"), 5)).verdict is Verdict.ERROR


class Redirecting(SimulatedRuntime):
    """Answers by path: a status and a Location."""

    def __init__(self, pages: dict[str, tuple[int, str]]) -> None:
        super().__init__()
        self.pages, self.asked = pages, list[str]()
        self.reach = self  # type: ignore[assignment]

    async def http(self, request: HttpRequest) -> HttpAnswer:
        self.asked.append(request.path)
        status, location = self.pages[request.path]
        return HttpAnswer(status, location)


async def test_redirects_are_followed_on_the_same_host() -> None:
    container = Container(name="a")
    container.ports.add(name="http", containerPort=8080)
    target = Target("x", container, IP)
    pages = {"/": (302, "/b?x=1"), "/b?x=1": (301, f"http://{IP}:8080/c"), "/c": (500, "")}
    runtime = Redirecting(pages)
    outcome = await Handlers(runtime).probe(target, http(), 5)
    assert outcome.message == "HTTP probe failed with statuscode: 500"
    assert runtime.asked == ["/", "/b?x=1", "/c"]
    away = await Handlers(Redirecting({"/": (302, "https://login.example/")})).probe(target, http(), 5)
    assert away.verdict is Verdict.WARNING and "https://login.example/" in away.message
    loop = await Handlers(Redirecting({"/": (302, "/")})).probe(target, http(), 5)
    assert loop.verdict is Verdict.FAILED and "stopped after 10 redirects" in loop.message
    assert await Handlers(Redirecting({"/": (304, "")})).probe(target, http(), 5) == WELL


def test_requests() -> None:
    action = HTTPGetAction(path="health", scheme="HTTPS", host="web")
    action.port.intVal = 8443
    action.httpHeaders.add(name="X-A", value="1")
    action.httpHeaders.add(name="accept", value="")
    request = http_request(action, Target("x", Container(), IP))
    assert (request.tls, request.host, request.port, request.path) == (True, "web", 8443, "/health")
    assert request.headers == (("User-Agent", "kube-probe/sampan"), ("X-A", "1"))
    bare = http_request(http().httpGet, Target("x", Container(ports=[{"name": "http", "containerPort": 1}]), IP))  # type: ignore[list-item]
    assert (bare.host, bare.port, bare.headers[1]) == (IP, 1, ("Accept", "*/*"))
    assert redirected(bare, "ftp://x/") is None
    assert redirected(bare, "http://[bad") is None


def test_port_names() -> None:
    container = Container(name="a")
    container.ports.add(name="http", containerPort=8080)
    action = http().httpGet
    assert port_number(action.port, container) == 8080
    action.port.strVal = "no"
    with pytest.raises(NotFound, match="container a has no port of this name"):
        port_number(action.port, container)
