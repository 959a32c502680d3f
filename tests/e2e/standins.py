"""Stand-ins for public images, under their names: nginx, redis, perl, etcd ... from Debian packages, one file system.

No registry is asked. Each role is that file system with another command; the hosts load it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from tests.e2e.debs import LEFT_OUT, compiled, furnish, making, unpacked, why_not
from tests.harness import Host
from tests.harness.commands import run
from tests.harness.images import APPLETS, CACHE, SCRIPTS

__all__ = ["DEBIAN", "NAMES", "named", "standins", "why_not"]

ROOTS = ("nginx", "redis-server", "busybox-static", "python3", "perl", "etcd-server", "stress")
UNNEEDED = re.compile(
    r"adduser|debconf|dpkg|gcc-|init-system|iproute2|libbpf1|libcap2-bin|libelf1|libgdbm|libmnl0|libncursesw|libnsl2"
    r"|libpam|libsemanage|libsepol|libsqlite3|libtirpc|libxtables|lsb-base|media-types|passwd|readline|libreadline"
    r"|sysvinit|tar$|usrmerge|libnumber|libfile-|libtext-|libaudit|libcap-ng"
)
_LEFT_OUT = (*(path for path in LEFT_OUT if not path.endswith("perl5")), "./usr/lib/python3/dist-packages/*")
_APPLETS = (*APPLETS, "killall", "tac")
_GUESTBOOK = Path(__file__).with_name("guestbook.py")
_NGINX = """
user root;
worker_processes 1;
error_log /dev/stderr;
pid /run/nginx.pid;
events { worker_connections 512; }
http {
  include mime.types;
  access_log /dev/stdout;
  server { listen 80; location / { root /usr/share/nginx/html; index index.html; } }
}
"""
_LABEL = "sampan.test.recipe"
_REDIS = ["redis-server", "--protected-mode", "no", "--save", "", "--dir", "/data", "--repl-ping-replica-period", "1"]
# Followers get their copy when they ask: Redis' own default waits 5 s for more of them.
_REDIS += ["--repl-diskless-sync-delay", "0"]
# A follower whose leader vanished without a word asks anew after this time (Redis' own default is a minute).
_FOLLOWER = [*_REDIS, "--repl-timeout", "5", "--replicaof"]
_FRONT_END = ["python3", "/opt/guestbook.py"]

# What a role adds to the file system: lines of a Dockerfile.
ROLES: Mapping[str, tuple[str, ...]] = {
    "debian": ('CMD ["sh"]',),
    "nginx": ('CMD ["nginx", "-g", "daemon off;"]', "STOPSIGNAL SIGQUIT"),
    "redis": (f"CMD {json.dumps(_REDIS)}",),
    "hello": ('CMD ["python3", "-m", "http.server", "8080", "-d", "/usr/share/nginx/html"]',),
    "redis-leader": (f"CMD {json.dumps([*_FRONT_END, 'leader'])}",),
    "redis-follower": (f"CMD {json.dumps([*_FOLLOWER, 'redis-leader', '6379'])}",),
    "redis-replica": (f"CMD {json.dumps([*_FOLLOWER, 'redis-master', '6379'])}",),
    "hpa-example": (f"CMD {json.dumps([*_FRONT_END, 'compute'])}",),
    "gb-frontend": (f"CMD {json.dumps(_FRONT_END)}",),
    "gb-frontend-v4": (
        "ENV GUESTBOOK_LEADER=redis-master GUESTBOOK_FOLLOWER=redis-replica",
        f"CMD {json.dumps(_FRONT_END)}",
    ),
}
DEBIAN = "sampan-test/debian:1"
# The public names that manifests of the documentation use, and the role that stands in.
NAMES: Mapping[str, str] = {
    "nginx:latest": "nginx",
    "nginx:1.14.2": "nginx",
    "redis:latest": "redis",
    "perl:latest": "debian",
    "debian:latest": "debian",
    "alpine:3": "debian",
    "polinux/stress:latest": "debian",
    "registry.k8s.io/etcd:3.5.1-0": "debian",
    "gcr.io/google-samples/hello-app:2.0": "hello",
    "gcr.io/google-samples/node-hello:1.0": "hello",
    "registry.k8s.io/redis:e2e": "redis",
    "us-docker.pkg.dev/google-samples/containers/gke/gb-redis-follower:v2": "redis-follower",
    "gcr.io/google_samples/gb-redisslave:v1": "redis-replica",
    "docker.io/corelab/gb-frontend:v5": "gb-frontend",
    "us-docker.pkg.dev/google-samples/containers/gke/gb-frontend:v5": "gb-frontend",
    "gcr.io/google_samples/gb-frontend:v4": "gb-frontend-v4",
    "registry.k8s.io/hpa-example:latest": "hpa-example",
    # Ours; the documentation names its leader by a digest, which no other image can have.
    "sampan-test/redis-leader:1": "redis-leader",
}


def _recipe() -> str:
    """Changes with what the images are made of: machines that have older ones make them anew."""
    parts = ["4", ROOTS, UNNEEDED.pattern, _APPLETS, _NGINX, _GUESTBOOK.read_text(), sorted(ROLES.items())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _image(role: str) -> str:
    return f"sampan-test/{role}:1"


async def standins() -> Path:
    """An archive with the images of all roles for `docker load`; about 30 s the first time, then it stays.

    Raises CommandFailed when no package mirror answers.
    """
    recipe = _recipe()
    target = CACHE / f"standins-{recipe}.tar"
    async with making():
        if not target.exists():
            await _make(target, recipe)
    return target


async def _make(target: Path, recipe: str) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="standins-") as folder:
        rootfs, archive = Path(folder) / "rootfs", Path(folder) / "rootfs.tar"
        await unpacked(rootfs, ROOTS, UNNEEDED, _LEFT_OUT)
        await asyncio.to_thread(_furnish, rootfs)
        await compiled(rootfs)
        await run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], timeout=180)
        label = ("--change", f"LABEL {_LABEL}={recipe}", "--change", "ENV PATH=/usr/bin:/usr/sbin:/bin")
        # Under a name, because who prunes the engine meanwhile takes what has none.
        base = f"sampan-test/standins:{recipe}"
        await run(["docker", "import", *label, str(archive), base], timeout=180)
        for role, lines in ROLES.items():
            text = "\n".join((f"FROM {base}", *lines))
            await run(["docker", "build", "-q", "-t", _image(role), "-"], input=text, timeout=180)
        partial = Path(folder) / "images.tar"
        await run(["docker", "save", "-o", str(partial), *map(_image, ROLES)], timeout=180)
        partial.rename(target)
        await run(["docker", "image", "rm", "--no-prune", base], check=False, timeout=60)
    # Of older recipes: what has no name any more.
    await run(["docker", "image", "prune", "-f", "--filter", f"label={_LABEL}"], check=False, timeout=60)
    for old in CACHE.glob("standins-*.tar"):
        if old != target:
            old.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def named(hosts: Iterable[Host], names: Iterable[str] = NAMES) -> AsyncIterator[None]:
    """The stand-ins are on all hosts under these public names while the block runs.

    The images themselves stay in the hosts' engines for the next harness; the public names do not.
    """
    archive, wanted, all_hosts = await standins(), list(names), list(hosts)
    async with asyncio.TaskGroup() as group:
        for host in all_hosts:
            group.create_task(_bring(host, archive, wanted))
    try:
        yield
    finally:
        for host in all_hosts:
            if host.engine.running:
                await host.docker("rmi", "--no-prune", *wanted, check=False)


async def _bring(host: Host, archive: Path, names: list[str]) -> None:
    ask = ("image", "inspect", "-f", f'{{{{index .Config.Labels "{_LABEL}"}}}}', *map(_image, ROLES))
    if (await host.docker(*ask, check=False)).split() != [_recipe()] * len(ROLES):
        await host.docker("load", "-q", "-i", str(archive), timeout=180)
        await host.docker("image", "prune", "-f")
    for name in names:
        await host.docker("tag", _image(NAMES[name]), name)


def _furnish(rootfs: Path) -> None:
    furnish(rootfs, applets=_APPLETS)
    for name, text in SCRIPTS.items():
        path = rootfs / "usr/bin" / name
        if not path.exists():
            path.write_text(text)
            path.chmod(0o755)
    for link, target in (("usr/local/bin/etcd", "/usr/bin/etcd"), ("usr/bin/python", "python3")):
        (rootfs / link).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / link).unlink(missing_ok=True)
        (rootfs / link).symlink_to(target)
    for folder in ("run", "opt", "root", "var/log/nginx", "var/lib/nginx", "var/lib/etcd"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
    (rootfs / "etc/nginx/nginx.conf").write_text(_NGINX)
    (rootfs / "opt/guestbook.py").write_text(_GUESTBOOK.read_text())
