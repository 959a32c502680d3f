"""The programs that benches run: brought where they are missing, so that each bench works on a fresh machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

# Program, and the Debian package that brings it.
PROGRAMS = {
    "busybox": "busybox-static",
    "curl": "curl",
    "docker": "docker.io",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "iptables": "iptables",
    "nft": "nftables",
    "nginx": "nginx",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "wrk": "wrk",
}
# What a cluster on this machine needs, each of its nodes with an engine of its own; two of them also have a registry.
CLUSTER = ("busybox", "curl", "docker", "dockerd", "ip", "iptables", "nsenter")
CLUSTERS = (*CLUSTER, "docker-registry")


def install(programs: Iterable[str], *more: str) -> None:
    """Brings the programs that are missing, and `more` packages, by apt. SystemExit, naming them, if it can't, or when
    `docker` is among them and no engine answers."""
    wanted = tuple(programs)
    missing = [*dict.fromkeys(PROGRAMS[name] for name in wanted if not shutil.which(name)), *more]
    if missing:
        _install(missing)
    if "docker" in wanted and subprocess.run(["docker", "version"], capture_output=True).returncode:
        raise SystemExit("this bench needs an engine that runs: `scripts/with-docker bench COMMAND` brings one")


def _install(missing: list[str]) -> None:
    if os.geteuid() or not shutil.which("apt-get"):
        raise SystemExit(f"this bench needs {', '.join(missing)}: install them (as root on Debian or Ubuntu it does)")
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    # Run level 1: none of them becomes a service of this machine.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"apt-get did not install {', '.join(missing)}: see above; perhaps `apt-get update` helps")
