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
    "docker-registry": "docker-registry",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "nft": "nftables",
    "nginx": "nginx",
    "wrk": "wrk",
}
# What two clusters on one machine, ours and the peer's, need beside an engine.
CLUSTERS = ("busybox", "docker-registry", "ip")


def install(programs: Iterable[str], *more: str) -> None:
    """Brings the programs that are missing, and `more` packages, by apt. SystemExit, naming them, if it can't."""
    missing = [PROGRAMS[name] for name in programs if not shutil.which(name)] + list(more)
    if not missing:
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise SystemExit(f"this bench needs {', '.join(missing)}: install them (as root on Debian or Ubuntu it does)")
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    # Run level 1: none of them becomes a service of this machine.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"apt-get did not install {', '.join(missing)}: see above; perhaps `apt-get update` helps")
