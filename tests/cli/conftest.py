"""A real master without nodes for the verbs that need none; modules that need more have fixtures of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.calling import Sampan, caller, own_namespace
from tests.cli.masters import Master, running


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with running(tmp_path_factory.mktemp("master")) as found:
        yield found


@pytest.fixture
def sampan(
    master: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Sampan]:
    """Runs a command line in a namespace of the test's own; returns exit code, stdout, stderr."""
    with own_namespace(master.address, request.node.name, monkeypatch):
        yield caller(master.address, capsys, monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Writes a manifest; returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "manifest.yaml"
        path.write_text(text)
        return str(path)

    return write
