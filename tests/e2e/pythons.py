"""A small image with Python and a shell, made from Debian packages: quickly loaded, pushed and pulled."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from pathlib import Path

from tests.e2e.debs import LEFT_OUT, compiled, furnish, making, unpacked, why_not
from tests.harness.commands import run
from tests.harness.images import CACHE

__all__ = ["PYTHON", "python_image", "why_not"]

PYTHON = "sampan-test/python:1"
ROOTS = ("python3", "busybox-static")
# Of what Python depends on, this is for modules that no server here imports.
UNNEEDED = re.compile(
    r"dpkg|gcc-|libacl|libbz2|libcom-err|libdb5|libgssapi|libk5|libkeyutils|libkrb5|liblzma|libmd0|libncursesw|libnsl2"
    r"|libpcre2|libreadline|libselinux|libsqlite3|libtinfo|libtirpc|libuuid|libzstd|media-types|readline|tar$"
)
_LABEL = "sampan.test.recipe"
_LEFT_OUT = (*LEFT_OUT, "./usr/lib/python3/dist-packages/*", "./usr/lib/python3.*/pydoc*")
_RECIPE = hashlib.sha256(f"1 {ROOTS} {UNNEEDED.pattern} {_LEFT_OUT}".encode()).hexdigest()[:16]


async def python_image() -> str:
    """The image's name, once the machine's engine has it; about 10 s the first time, then the image stays.

    Raises CommandFailed when no package mirror answers.
    """
    label = ["docker", "image", "inspect", "-f", f'{{{{index .Config.Labels "{_LABEL}"}}}}', PYTHON]
    async with making():
        if (await run(label, check=False)).strip() != _RECIPE:
            await _make()
    return PYTHON


async def _make() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="python-") as folder:
        rootfs, archive = Path(folder) / "rootfs", Path(folder) / "rootfs.tar"
        await unpacked(rootfs, ROOTS, UNNEEDED, _LEFT_OUT)
        await asyncio.to_thread(furnish, rootfs)
        await compiled(rootfs)
        await run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], timeout=180)
        changes = ("--change", f"LABEL {_LABEL}={_RECIPE}", "--change", 'CMD ["python3"]')
        await run(["docker", "import", *changes, str(archive), PYTHON], timeout=180)
