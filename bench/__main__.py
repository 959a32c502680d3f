"""`make bench`: every bench in turn, each a process of its own; ends with the number of those that failed."""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("scheduler", "proxy", "growth", "cluster", "ready", "drops", "rollout", "deadnode", "soak")


def main() -> int:
    failed = [name for name in BENCHES if subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
