"""How much a directory holds; blocks."""

from __future__ import annotations

import os
from pathlib import Path


def tree_bytes(root: Path) -> int:
    """Bytes on disk of all files below `root`, without other file systems; 0 when it is not there."""
    try:
        device = root.stat().st_dev
    except OSError:
        return 0
    total, waiting = 0, [str(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen = entry.stat(follow_symlinks=False)
                    if seen.st_dev != device:
                        continue
                    total += seen.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            # Removed while we look.
            continue
    return total
