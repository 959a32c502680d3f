"""The resolv.conf files that containers mount, kept under the data directory, one for each content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

RESOLV_CONF = "/etc/resolv.conf"
_DIRECTORY = "resolv"


def resolv_file(data_dir: Path, text: str) -> Path:
    """A file with this text; made when it is not there, never changed: containers share it, read-only."""
    directory = data_dir / _DIRECTORY
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if path.is_file():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=directory, prefix=".", delete=False) as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    # In one step: another container may be starting with the same one.
    Path(file.name).replace(path)
    return path
