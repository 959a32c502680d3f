"""Logging of the proxy: events with fields, one line each, through the standard library alone.

Not common.logs: structlog and what it pulls in cost this process a third of its memory, and every node runs one.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


class EventLog:
    """A named logger that takes an event and its fields: `log.info("listener.open", port=80)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        self._logger.error(event, exc_info=exc_info, extra={"fields": fields})


class _Formatter(logging.Formatter):
    """`timestamp=… level=… event=… key=value`, or the same as a JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._json = as_json

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "timestamp": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "role": "proxy",
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, default=str)
        return " ".join(f"{key}={_plain(value)}" for key, value in fields.items())


def _plain(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in '="' for c in text) else text


def configure(*, level: str = "info", as_json: bool = False) -> None:
    """Sends all logging of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.getLevelNamesMapping()[level.upper()])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
