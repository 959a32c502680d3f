"""The parts of exec, cp, port-forward, logs and top that need no cluster; and what a user is told who errs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import forwarding, logstreams, usage
from cli.commands.cp import Packed, Pieces, Place, owner_of, parse_place
from cli.forwarding import Ports, listen, parse_ports
from cli.main import WRONG_USAGE, run
from cli.terminal import Requests
from common.errors import BadRequest, Unavailable
from protos import control_pb2 as control
from protos import core_pb2


def number_of(name: str) -> int:
    return {"http": 8080}[name]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", Ports(80, "80")),
        ("8080:80", Ports(8080, "80")),
        (":80", Ports(0, "80")),
        ("http", Ports(8080, "http")),
        ("81:http", Ports(81, "http")),
    ],
)
def test_ports(text: str, ports: Ports) -> None:
    assert parse_ports(text, number_of) == ports


@pytest.mark.parametrize("text", ["", ":", "80:", "x:80", "0", "70000", "80:70000", "1:2:3"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match=r"must be \[LOCAL:\]REMOTE"):
        parse_ports(text, number_of)


def test_a_busy_port_is_told_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"127.0.0.1:{port}: the port is in use; name another"):
            listen(["localhost"], [Ports(0, "80"), Ports(port, "80")])
    with pytest.raises(Unavailable, match="--address takes addresses of this machine"):
        listen(["192.0.2.1"], [Ports(0, "80")])
    ((listener, _),) = listen(["localhost"], [Ports(0, "80")])
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    assert forwarding.Ports(1, "2").remote == "2"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/tmp/x", Place("/tmp/x", "web", "here")),
        ("there/web:/x", Place("/x", "web", "there")),
        ("./a:b", Place("./a:b")),
        ("/a:b", Place("/a:b")),
        ("file", Place("file")),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text, "here") == place


@pytest.mark.parametrize("text", ["web:x", "web:/", "web:", ":/x", "a/b/c:/x", "/", ""])
def test_places_that_are_none(text: str) -> None:
    if text == "/":
        assert parse_place(text, "here") == Place("/")
        return
    with pytest.raises(BadRequest):
        parse_place(text, "here")


def test_files_belong_to_who_the_container_runs_as() -> None:
    pod = core_pb2.Pod()
    pod.spec.securityContext.runAsUser, pod.spec.securityContext.runAsGroup = 5, 6
    pod.spec.containers.add(name="a")
    pod.spec.containers.add(name="b").securityContext.runAsUser = 7
    assert (owner_of(pod, "a"), owner_of(pod, "b"), owner_of(core_pb2.Pod(), "c")) == ((5, 6), (7, 6), (0, 0))


def test_what_fails_here_while_packing_is_the_cause() -> None:
    def write(out: object) -> None:
        raise PermissionError(13, "Permission denied", "secret")

    packed = Packed(write)
    with pytest.raises(PermissionError):
        list(packed.requests(control.CopyRequest()))
    assert isinstance(packed.failed, PermissionError)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_pieces_read_as_one_file(pieces: list[bytes], size: int) -> None:
    file, found = Pieces(iter(pieces)), b""
    while piece := file.read(size):
        found += piece
    assert found == b"".join(pieces)


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"\n"))))
def test_lines_are_whole_and_nothing_is_lost(pieces: list[bytes]) -> None:
    found = list(logstreams.lines(pieces))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in found)
    whole = b"".join(pieces)
    assert b"".join(found) == (whole if whole.endswith(b"\n") or not whole else whole + b"\n")


def test_a_line_without_end_costs_a_bounded_amount() -> None:
    pieces = [b"x" * 50_000] * 10
    found = list(logstreams.lines(pieces))
    assert max(map(len, found)) <= logstreams.MOST_LINE + 50_001
    assert sum(len(line) - 1 for line in found) == 500_000


def source(pod: str, node: str) -> logstreams.Source:
    return logstreams.Source(pod, "c", node, control.LogsRequest(pod=pod))


@pytest.fixture
def reader() -> Callable[[control.LogsRequest], Iterator[bytes]]:
    def read(request: control.LogsRequest) -> Iterator[bytes]:
        if request.pod.startswith("away"):
            raise Unavailable('node "n2" is not connected')
        yield f"one of {request.pod}\ntwo".encode()

    return read


def test_what_can_be_read_is_printed_and_the_rest_is_named(
    reader: Callable[[control.LogsRequest], Iterator[bytes]], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for follow in (False, True):
        printer = logstreams.Printer(reader, prefix=True)
        wanted = [source("a", "n1"), source("away-1", "n2"), source("away-2", "n2"), source("b", "n1")]
        if follow:
            printer.together(wanted, 5)
        else:
            printer.in_turn(wanted)
        said = capsysbinary.readouterr()
        assert sorted(said.out.splitlines()) == [
            b"[pod/a/c] one of a",
            b"[pod/a/c] two",
            b"[pod/b/c] one of b",
            b"[pod/b/c] two",
        ]
        assert said.err.count(b'/c: node "n2" is not connected') == 2 and len(printer.failed) == 2
    with pytest.raises(BadRequest, match="raise it to 4"):
        printer.together(wanted, 3)


def test_rows_of_top() -> None:
    def pod(name: str, node: str) -> core_pb2.Pod:
        made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=name, namespace="d"))
        made.spec.nodeName = node
        return made

    parts = [{"name": "c", "cpu": 0.25, "memory": 3 << 20}, {"name": "s", "cpu": 0.0001, "memory": 1 << 20}]
    measured = [
        {"namespace": "d", "name": "a", "containers": parts},
        {"namespace": "d", "name": "b", "containers": parts[:1]},
    ]
    answers = {"n1": {"cpu": 1.0, "memory": 1 << 30, "pods": measured}}
    pods = [pod("b", "n1"), pod("a", "n1"), pod("silent", "n2")]
    assert usage.pod_rows(pods, answers, None, containers=False, namespaces=False) == [
        ("a", "250m", "4Mi"),
        ("b", "250m", "3Mi"),
    ]
    rows = usage.pod_rows(pods, answers, "cpu", containers=True, namespaces=True)
    assert rows[-1] == ("d", "a", "s", "1m", "1Mi") and len(rows) == 3
    node = core_pb2.Node(metadata=core_pb2.ObjectMeta(name="n1"))
    node.status.allocatable["cpu"].value, node.status.allocatable["memory"].value = "2", "4Gi"
    away = core_pb2.Node(metadata=core_pb2.ObjectMeta(name="n0"))
    assert usage.node_rows([away, node], answers, "memory") == [
        ("n1", "1000m", "50%", "1024Mi", "25%"),
        ("n0", *["<unknown>"] * 4),
    ]


def test_requests_without_stdin_are_the_start_only() -> None:
    start = control.ExecStart(pod="web", argv=["date"])
    assert list(Requests(control.ExecRequest, start, stdin=False, tty=False)) == [control.ExecRequest(start=start)]
    asked = iter(Requests(control.ExecRequest, start, stdin=False, tty=True))
    next(asked)


def test_a_new_window_size_is_told_once() -> None:
    requests = Requests(control.ExecRequest, control.ExecStart(), stdin=False, tty=True)
    asked = iter(requests)
    next(asked)
    # Signals come in crowds, and must not wait.
    for rows in range(100):
        requests.resized((rows, 80))
    assert next(asked).resize == control.TerminalSize(rows=99, cols=80)
    requests.end()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("logs",), "say which pods"),
        (("logs", "web", "-l", "app=web"), "only one of them"),
        (("logs", "web", "-c", "a", "--all-containers"), "do not go together"),
        (("logs", "web", "--since-time", "yesterday"), "must be a time like"),
        (("cp", "a", "b"), "must be in a container"),
        (("run", "x", "--image=i", "--rm"), "--rm needs -i or --attach"),
        (("run", "x", "--image=i", "-t"), "-t needs -i"),
        (("exec", "web"), "COMMAND"),
        (("port-forward", "web"), "REMOTE"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--master", "127.0.0.1:1"]) in (1, WRONG_USAGE)
    assert told in capsys.readouterr().err
