"""Images for hosts that reach no registry: a busybox of the machine's own binary, and what the machine's engine has."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import platform
import shutil
import tarfile
import time
from pathlib import Path

from tests.harness.commands import run

# A shell, httpd, nc and friends in 2 MB; known on every test host under both names.
BUSYBOX = "sampan-test/busybox:1"
BUSYBOX_NAMES = (BUSYBOX, "busybox:latest")
# Python and Sampan itself; made by scripts/image.
SAMPAN = "sampan:dev"

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "harness"
_OLD_SECONDS = 600
_numbers = itertools.count(1)
_APPLET_TEXT = """
    [ ash awk basename cat chmod chown cp cut date dd df dirname du echo env expr false find free grep head
    hostname httpd id ifconfig ip kill ln ls mkdir mknod mktemp mount mv nc netstat nslookup od ping printf ps pwd
    readlink rm rmdir route sed seq sh sleep sort stat sync tail tar tee telnet test time timeout top touch tr
    traceroute true tty umount uname uniq uptime usleep vi wc wget which whoami xargs yes
"""
APPLETS = _APPLET_TEXT.split()
# Applets of the public busybox image that a distribution's build may lack.
SCRIPTS = {"printenv": '#!/bin/sh\nfor name; do env | sed -n "s/^$name=//p"; done\n'}


def busybox_archive() -> Path:
    """An archive for `docker load` with BUSYBOX in it, made once from the machine's static busybox.

    Raises FileNotFoundError when there is no busybox.
    """
    binary = shutil.which("busybox")
    if binary is None:
        raise FileNotFoundError("no busybox on this machine: apt-get install busybox-static")
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / "busybox.tar"
    content = Path(binary).read_bytes()
    stamp = hashlib.sha256(content + " ".join([*APPLETS, *BUSYBOX_NAMES, *SCRIPTS.values()]).encode()).hexdigest()
    mark = CACHE / "busybox.made-from"
    if target.exists() and mark.exists() and mark.read_text() == stamp:
        return target
    layer = _layer(content)
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "busybox-static"}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": list(BUSYBOX_NAMES), "Layers": ["layer.tar"]}]).encode()
    # Several may make it at the same time; the last rename wins, all are the same.
    partial = target.with_suffix(f".partial-{os.getpid()}")
    with tarfile.open(partial, "w") as archive:
        for name, data in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(archive, name, data)
    partial.rename(target)
    mark.write_text(stamp)
    return target


async def archive_of(image: str) -> tuple[Path, str]:
    """An archive with `image` and the image's id; of the machine's own engine, saved once per id.

    Raises CommandFailed when the machine's engine does not have the image.
    """
    if image in BUSYBOX_NAMES:
        path = busybox_archive()
        with tarfile.open(path) as archive:
            name = next(n for n in archive.getnames() if n.endswith(".json") and n != "manifest.json")
        return path, f"sha256:{name.removesuffix('.json')}"
    identity = (await run(["docker", "image", "inspect", "-f", "{{.Id}}", image])).strip()
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = image.replace("/", "_").replace(":", "_")
    path = CACHE / f"{stem}-{identity.removeprefix('sha256:')[:16]}.tar"
    if not path.exists():
        partial = path.with_suffix(f".partial-{os.getpid()}-{next(_numbers)}")
        await run(["docker", "save", "-o", str(partial), image], timeout=120)
        partial.rename(path)
        _remove_others(path, stem)
    return path, identity


def _remove_others(path: Path, stem: str) -> None:
    """Removes archives of older images of this name; young ones may just be read by another harness."""
    for old in CACHE.glob(f"{stem}-*"):
        if old != path and time.time() - old.stat().st_mtime > _OLD_SECONDS:
            old.unlink(missing_ok=True)


def _layer(busybox: bytes) -> bytes:
    """The file system: one binary, a link per applet, and the few files that programs expect."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        _add(layer, "bin/busybox", busybox, 0o755)
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(entry)
        for name, text in SCRIPTS.items():
            _add(layer, f"bin/{name}", text.encode(), 0o755)
        _add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n")
        _add(layer, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
