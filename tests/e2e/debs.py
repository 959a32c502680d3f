"""Root file systems of Debian packages, unpacked without running any of their scripts: no registry is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.harness.commands import CommandFailed, run
from tests.harness.images import APPLETS, CACHE
from tests.harness.slots import Claim

# Resolved as for an empty machine: what is installed here does not count.
_EMPTY = ("-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
_USR = ("bin", "sbin", "lib", "lib64")
LEFT_OUT = tuple(f"./usr/share/{name}" for name in ("doc", "man", "locale", "i18n", "info", "icu", "perl5"))


def why_not() -> str:
    """Why no image can be made of packages here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root (network namespaces, file owners): run as root"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "makes its image from Debian packages: there is no apt-get here"
    return ""


@contextlib.asynccontextmanager
async def making() -> AsyncIterator[None]:
    """One at a time of all test processes of this tree: two that make the same images would disturb each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            claim = Claim(CACHE / "making.lock")
            break
        except BlockingIOError:
            await asyncio.sleep(0.1)
    try:
        yield
    finally:
        claim.release()


async def unpacked(
    rootfs: Path, roots: Sequence[str], unneeded: re.Pattern[str], left_out: Sequence[str] = LEFT_OUT
) -> None:
    """Makes the folder `rootfs` of the packages `roots` and of what they depend on.

    Packages whose names match `unneeded`, and paths of `left_out` (patterns of tar), stay away.
    Raises CommandFailed when no package mirror answers.
    """
    packages = await _download(await _needed(roots, unneeded))
    rootfs.mkdir()
    for name in _USR:
        (rootfs / "usr" / name).mkdir(parents=True, exist_ok=True)
        (rootfs / name).symlink_to(f"usr/{name}")
    each = 'dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$0" --keep-directory-symlink $LEFT_OUT'
    script = f'set -f; for deb in "$@"; do {each}; done'
    environment = {**os.environ, "LEFT_OUT": " ".join(f"--exclude={path}" for path in left_out)}
    await run(["bash", "-o", "pipefail", "-ec", script, str(rootfs), *map(str, packages)], timeout=180, env=environment)


def furnish(rootfs: Path, users: Sequence[str] = (), applets: Sequence[str] = APPLETS) -> None:
    """What scripts of the packages would have made: users (name:uid), folders, and busybox's applets."""
    for applet in applets:
        link = rootfs / "usr/bin" / applet
        if not link.exists() and not link.is_symlink():
            link.symlink_to("busybox")
    etc = rootfs / "etc"
    etc.mkdir(exist_ok=True)
    passwd, group = ["root:x:0:0:root:/root:/bin/sh"], ["root:x:0:"]
    for name, number in (user.split(":") for user in users):
        passwd.append(f"{name}:x:{number}:{number}:{name}:/data:/bin/sh")
        group.append(f"{name}:x:{number}:")
    (etc / "passwd").write_text("\n".join(passwd) + "\n")
    (etc / "group").write_text("\n".join(group) + "\n")
    for folder, mode in (("tmp", 0o1777), ("data", 0o700), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)):
        path = rootfs / folder
        path.mkdir(exist_ok=True)
        path.chmod(mode)


async def compiled(rootfs: Path) -> None:
    """Python's modules, compiled here and once, and not at every start of a container."""
    await run(["chroot", str(rootfs), "python3", "-m", "compileall", "-q", "/usr/lib"], check=False, timeout=120)


async def _needed(roots: Sequence[str], unneeded: re.Pattern[str]) -> dict[str, str]:
    """Package names by the file name of their archive, in the newest version that the package lists have."""
    ask = ["apt-get", *_EMPTY, "--simulate", "--no-install-recommends", "install", *roots]
    try:
        answer = await run(ask, timeout=60)
    except CommandFailed:
        # A fresh machine has no package lists.
        await run(["apt-get", "-q", "update"], timeout=120)
        answer = await run(ask, timeout=60)
    found = re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", answer, re.MULTILINE)
    files = {f"{name}_{version.replace(':', '%3a')}_{arch}.deb": name for name, version, arch in found}
    return {file: name for file, name in files.items() if not unneeded.match(name)}


async def _download(needed: dict[str, str]) -> list[Path]:
    """The archives, kept below .cache for the next time."""
    kept = CACHE / "debs"
    kept.mkdir(parents=True, exist_ok=True)
    missing = [name for file, name in needed.items() if not (kept / file).exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="debs-") as folder:
            options = ("-q", "-o", "APT::Sandbox::User=root")
            await run(["sh", "-c", 'cd "$0" && exec apt-get download "$@"', folder, *options, *missing], timeout=180)
            for file in Path(folder).glob("*.deb"):
                file.rename(kept / file.name)
    names = set(needed.values())
    for file in kept.glob("*.deb"):
        # Older versions; what other images are made of stays.
        if file.name not in needed and file.name.partition("_")[0] in names:
            file.unlink(missing_ok=True)
    return [kept / file for file in sorted(needed)]
