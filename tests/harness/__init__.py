"""Real Docker hosts on one machine, a Sampan cluster on them, and every fault a test may want; see docs/harness.md."""

from __future__ import annotations

from tests.harness.cluster import Cluster, Node
from tests.harness.commands import CommandFailed, eventually, run
from tests.harness.hosts import Host, Hosts
from tests.harness.images import BUSYBOX, SAMPAN

__all__ = ["BUSYBOX", "SAMPAN", "Cluster", "CommandFailed", "Host", "Hosts", "Node", "eventually", "run"]
