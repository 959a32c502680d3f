"""Keeps what an agent never uses of its libraries out of its memory; to be called before they are imported."""

from __future__ import annotations

import importlib
import os
import sys


def lean_imports() -> None:
    """For the agent's own process, as its first act."""
    # structlog would load it (4 MB) for tracebacks in colour, which no agent prints.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def import_engine_client() -> None:
    """Before the engine's client is imported, which reads all authorities of the machine (2 MB) as it is loaded.

    It speaks to the engine alone; who asks somebody else makes a context of their own.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        importlib.import_module("aiohttp")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
