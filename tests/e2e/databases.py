"""An image with PostgreSQL, Redis and their own clients, made from Debian packages: no registry is asked."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from pathlib import Path

from tests.e2e.debs import LEFT_OUT, furnish, making, unpacked, why_not
from tests.harness.commands import run
from tests.harness.images import CACHE

__all__ = ["DATABASES", "databases_image", "why_not"]

DATABASES = "sampan-test/databases:1"
ROOTS = ("postgresql", "redis-server", "busybox-static")
# Of what those depend on, this is for their installation or for features that no test uses.
UNNEEDED = re.compile(
    r"adduser|debconf|dpkg|gcc-|init-system|libc-bin|libc-l10n|libgdbm|libjson-perl|libllvm|libpam-|libperl|libsemanage"
    r"|libsepol|libz3|locales|lsb-base|netbase|openssl$|perl|postgresql$|postgresql-(client-)?common|sensible-|ssl-cert"
    r"|sysvinit|tar$|ucf|usrmerge|libnumber|libfile-|libtext-|libmodule|media-types|mount|passwd|login|util-linux"
)
USER = "999"
_LABEL = "sampan.test.recipe"
# To be changed with what the image is made of: machines that have an older one make it anew.
_RECIPE = hashlib.sha256(f"2 {ROOTS} {UNNEEDED.pattern}".encode()).hexdigest()[:16]
_LEFT_OUT = (*LEFT_OUT, "./usr/lib/postgresql/*/lib/bitcode")


async def databases_image() -> str:
    """The image's name, once the machine's engine has it; about 20 s the first time, then the image stays.

    Raises CommandFailed when no package mirror answers.
    """
    label = ["docker", "image", "inspect", "-f", f'{{{{index .Config.Labels "{_LABEL}"}}}}', DATABASES]
    async with making():
        if (await run(label, check=False)).strip() != _RECIPE:
            await _make()
    return DATABASES


async def _make() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="databases-") as folder:
        rootfs = Path(folder) / "rootfs"
        await unpacked(rootfs, ROOTS, UNNEEDED, _LEFT_OUT)
        await asyncio.to_thread(_furnish, rootfs)
        archive = Path(folder) / "rootfs.tar"
        await run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], timeout=180)
        (postgres,) = (rootfs / "usr/lib/postgresql").iterdir()
        path = f"/usr/lib/postgresql/{postgres.name}/bin:/usr/bin:/bin"
        changes = [f"USER {USER}:{USER}", f"ENV PATH={path}", f"LABEL {_LABEL}={_RECIPE}", 'CMD ["sh"]']
        options = [word for change in changes for word in ("--change", change)]
        await run(["docker", "import", *options, str(archive), DATABASES], timeout=180)


def _furnish(rootfs: Path) -> None:
    furnish(rootfs, [f"db:{USER}"])
    os.chown(rootfs / "data", int(USER), int(USER))
