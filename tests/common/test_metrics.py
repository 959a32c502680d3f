"""The exposition text, histograms, counters that never fall, and the small HTTP answerer on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import scrape
from common.looplag import LoopLag
from common.metrics import CONTENT_TYPE, Histogram, Metric, Rising, number, render
from tests.ports import free_port

LABELLED = Metric("some_total", "counter", 'Counts "things"\nby \\ kind.', ("kind",))


def test_the_text_is_prometheus_own() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7):
        histogram.observe(value)
    text = render(
        [
            (Metric("up", "gauge", "Whether."), 1.0),
            (LABELLED, {('a"\n\\',): 2.5, ("b",): 3.0}),
            (Metric("took_seconds", "histogram", "How long."), histogram),
        ]
    )
    assert text == (
        "# HELP up Whether.\n# TYPE up gauge\nup 1\n"
        '# HELP some_total Counts "things"\\nby \\\\ kind.\n# TYPE some_total counter\n'
        'some_total{kind="a\\"\\n\\\\"} 2.5\nsome_total{kind="b"} 3\n'
        "# HELP took_seconds How long.\n# TYPE took_seconds histogram\n"
        'took_seconds_bucket{le="0.1"} 2\ntook_seconds_bucket{le="1"} 3\ntook_seconds_bucket{le="+Inf"} 4\n'
        "took_seconds_sum 7.65\ntook_seconds_count 4\n"
    )


@given(st.text(), st.floats())
def test_whatever_a_label_says_it_is_one_line(label: str, value: float) -> None:
    text = render([(LABELLED, {(label,): value})])
    assert re.fullmatch(r'some_total\{kind="(?:[^"\\\n]|\\["\\n])*"\} \S+', text.split("\n")[2])
    assert text.count("\n") == 3
    assert float(number(value)) == value or value != value


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_histograms_add_up_by_name(one: list[float], two: list[float]) -> None:
    parts = [Histogram((0.5, 5.0)), Histogram((0.5, 5.0))]
    both = Histogram((0.5, 5.0))
    for part, values in zip(parts, (one, two), strict=True):
        for value in values:
            part.observe(value)
            both.observe(value)
    first, second = (part.to_json() for part in parts)
    read = Histogram.from_json({name: first[name] + second[name] for name in first})
    assert read.bounds == both.bounds and read.counts == both.counts
    assert read.total == pytest.approx(both.total, abs=1e-4)


@given(st.lists(st.integers(0, 1000)))
def test_counters_never_fall_and_miss_no_rise(values: list[int]) -> None:
    rising, last = Rising(), 0.0
    risen = 0
    for before, value in zip([0, *values], values, strict=False):
        risen += max(0, value - before)
        seen = rising("name", value)
        assert seen >= last and seen == risen
        last = seen


@contextlib.asynccontextmanager
async def served(place: str, text: str = "body\n") -> AsyncIterator[list[str]]:
    failures: list[str] = []

    async def readings() -> str:
        return text

    async with asyncio.TaskGroup() as group:
        task = group.create_task(scrape.serve(place, readings, failures.append))
        try:
            yield failures
        finally:
            task.cancel()


def free() -> str:
    return f"127.0.0.1:{free_port()}"


async def asked(place: str, request: bytes) -> bytes:
    async with asyncio.timeout(30):
        while True:
            try:
                if place.startswith("unix:"):
                    reader, writer = await asyncio.open_unix_connection(place.removeprefix("unix:"))
                else:
                    reader, writer = await asyncio.open_connection(*place.split(":"))
                break
            except OSError:
                await asyncio.sleep(0.01)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "body\n"),
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", "200 OK", "body\n"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", ""),
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found", "there is only /metrics here\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "405 Method Not Allowed\n"),
        (b"\x16\x03\x01 nonsense\r\n\r\n", "400 Bad Request", "400 Bad Request\n"),
    ],
)
async def test_requests(request_: bytes, status: str, body: str) -> None:
    place = free()
    async with served(place):
        head, _, got = (await asked(place, request_)).decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n") and got == body
    assert ("Content-Type: " + CONTENT_TYPE in head) == (status == "200 OK")
    assert "Connection: close" in head


async def test_a_head_without_end_is_hung_up_on_and_others_are_answered(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'metrics.sock'}"
    async with served(place):
        assert await asked(place, b"GET /metrics HTTP/1.1\r\n" + b"x" * 20_000) == b""
        assert (await asked(place, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_an_address_in_use_is_told_once_and_had_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "RETRY_SECONDS", 0.01)
    place = free()
    holder = await asyncio.start_server(lambda reader, writer: None, *place.split(":"))
    async with served(place) as failures:
        async with asyncio.timeout(30):
            while not failures:
                await asyncio.sleep(0.01)
        holder.close()
        await holder.wait_closed()
        assert (await asked(place, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"body\n")
    assert len(failures) == 1 and "in use" in failures[0]


@pytest.mark.parametrize("text", ["", "9101", ":9101", "host:", "host:0", "host:70000", "unix:"])
def test_where_says_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        scrape.where(text)


@pytest.mark.parametrize("text", ["0.0.0.0:9101", "[::]:9101"])
def test_a_port_is_not_taken_from_all_services(text: str) -> None:
    with pytest.raises(ValueError, match="would take port 9101 from every service"):
        scrape.where(text)


async def test_a_stalled_loop_shows() -> None:
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop, every=0.02)
    lag.start()
    try:
        async with asyncio.timeout(30):
            while not sum(lag.seconds.counts):
                await asyncio.sleep(0.005)
            until = loop.time() + 0.15
            while loop.time() < until:
                pass
            while not sum(lag.seconds.counts[4:]):
                await asyncio.sleep(0.005)
    finally:
        lag.close()
    assert lag.seconds.total > 0.1
