"""The terminal of `exec -it`: as raw as it has to be, and as it was afterwards."""

from __future__ import annotations

import os
import select
import termios

import pytest

from cli import terminal


def test_what_was_typed_ahead_is_not_lost_and_the_terminal_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, line = os.openpty()
    try:
        monkeypatch.setattr(terminal, "_STDIN", line)
        before = termios.tcgetattr(line)
        os.write(keyboard, b"exit 7\n")
        assert select.select([line], [], [], 10)[0]
        with terminal.raw_terminal():
            assert not termios.tcgetattr(line)[3] & (termios.ECHO | termios.ISIG)
            assert select.select([line], [], [], 10)[0], "what was typed is gone"
            assert os.read(line, 100) == b"exit 7\n"
        assert termios.tcgetattr(line) == before
    finally:
        os.close(keyboard)
        os.close(line)
