"""The command line as a user types it, in this process: exit code, stdout and stderr of each call."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from cli.client import Client
from cli.main import run
from common import kinds

Sampan = Callable[..., tuple[int, str, str]]


def caller(address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sampan:
    """Calls that talk to the master at this address."""
    monkeypatch.setenv("SAMPAN_MASTER", address)
    monkeypatch.delenv("SAMPAN_TOKEN", raising=False)

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(args))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@contextlib.contextmanager
def own_namespace(address: str, test: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A namespace named after the test, in which its calls work; it is deleted afterwards."""
    namespace = test.replace("_", "-").replace("[", "-").strip("]")[:60].strip("-")
    monkeypatch.setenv("SAMPAN_NAMESPACE", namespace)
    with Client(address) as client:
        client.create(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}), "")
    yield
    with Client(address) as client:
        client.delete(kinds.NAMESPACE, "", namespace)
