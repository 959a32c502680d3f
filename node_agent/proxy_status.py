"""Asks the node's proxy what it does, over its unix socket, beside the connection that hands over the table."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from common.errors import Unavailable

# The proxy answers in milliseconds; its workers have a second each.
SECONDS = 4.0
# A proxy with 10,000 services and 100,000 endpoints answers with about 20 MB.
LINE_BYTES = 64 * 1024 * 1024


async def proxy_status(socket: Path) -> dict[str, Any]:
    """The status of the proxy on `socket`, as docs/network.md describes it. Raises Unavailable."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=LINE_BYTES)
            try:
                writer.write(b'{"status":{}}\n')
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        status = answer["status"]
    except TimeoutError:
        raise Unavailable(f"the proxy does not answer within {SECONDS:.0f} s") from None
    except OSError as error:
        raise Unavailable(f"the proxy does not run: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"the proxy's answer can't be read: {error!r}") from None
    if not isinstance(status, dict):
        raise Unavailable("the proxy's answer can't be read: its status is no object")
    return status
