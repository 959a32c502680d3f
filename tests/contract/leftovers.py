"""Names that say which test run made them, and the removal of what runs left that were killed."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from pathlib import Path

_OURS = re.compile(r"contract-(\d+)-(\d+)-[0-9a-f]+")
_CLUSTER_LABEL = "sampan.dev/cluster"
# proc(5), /proc/PID/stat: the start time is field 22, and what follows the name in brackets begins with field 3.
_START_TIME = 22 - 3


def cluster_name() -> str:
    """A new cluster's name, with this process in it."""
    return f"contract-{os.getpid()}-{_started(os.getpid())}-{uuid.uuid4().hex[:8]}"


def is_left_over(cluster: str) -> bool:
    """Whether a cluster of this name was made by a test run whose process is gone."""
    found = _OURS.fullmatch(cluster)
    return found is not None and _started(int(found[1])) != int(found[2])


def remove_leftovers() -> None:
    """Containers, volumes and networks on the machine's engine that dead test runs have left."""
    for kind, listed in (("container", ["ps", "-a"]), ("volume", ["volume", "ls"])):
        shown = "{{.ID}}" if kind == "container" else "{{.Name}}"
        form = shown + ' {{.Label "' + _CLUSTER_LABEL + '"}}'
        for line in docker(*listed, "--filter", f"label={_CLUSTER_LABEL}", "--format", form):
            name, _, cluster = line.partition(" ")
            if is_left_over(cluster):
                docker(kind, "rm", "--force", name)
    for network in docker("network", "ls", "--format", "{{.Name}}"):
        if is_left_over(network.removeprefix("sampan-")):
            docker("network", "rm", network)


def docker(*arguments: str) -> list[str]:
    """Lines of output; none where it failed: another run may be removing the same."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _started(pid: int) -> int:
    """When a process began, in clock ticks since boot; -1 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[_START_TIME])
