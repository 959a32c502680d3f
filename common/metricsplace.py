"""Where a role answers for its figures: one flag's text, read; apart from what answers, which loads asyncio."""

from __future__ import annotations

from pathlib import Path


def where(text: str) -> tuple[str, int] | Path:
    """HOST:PORT, or the path in unix:PATH. Raises ValueError that says what would be right."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError(f'must be HOST:PORT or unix:PATH, got "{text}"')
        return Path(path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'must be HOST:PORT such as 127.0.0.1:9101, or unix:PATH, got "{text}"')
    host = host.strip("[]")
    if host in ("0.0.0.0", "::", "*"):
        # The whole service range is local to a node.
        raise ValueError(f'must name one address: on "{host}" it would take port {port} from every service')
    return host, int(port)
