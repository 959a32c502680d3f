"""One line an event, for people and for machines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from proxy import logs


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.EventLog("proxy").info("listener.open", address="10.96.0.1", port=80, key="a/b", note="two words")
    line = capsys.readouterr().err.strip()
    assert "level=info event=listener.open role=proxy address=10.96.0.1 port=80 key=a/b note='two words'" in line


def test_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="warning", as_json=True)
    log = logs.EventLog("proxy")
    log.info("not.shown")
    try:
        raise ValueError("wrong")
    except ValueError as error:
        log.error("it.failed", exc_info=error, port=80)
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["port"]) == ("it.failed", "error", 80)
    assert "ValueError: wrong" in event["exception"] and event["timestamp"].endswith("Z")
