"""Writes docs/metrics.md from the tables of metrics in proxy and agent: `python -m scripts.metrics_page [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from common.metrics import CALL_BOUNDS, LAG_BOUNDS, Metric, number
from node_agent import metrics as agent
from proxy import metrics as proxy

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
_HEAD = """\
# Metrics

<!-- Written by `python -m scripts.metrics_page` from proxy/metrics.py and node_agent/metrics.py: change those. -->

A node's agent and its proxy answer `GET /metrics` in Prometheus' text format (0.0.4), each on an address of its own.
Both are silent unless an address is given:

| process | flag | environment |
|---|---|---|
| `sampan-node` (for its agent), `sampan-agent` | `--metrics-listen HOST:PORT` | `SAMPAN_METRICS_LISTEN` |
| `sampan-node` (for its proxy) | `--proxy-metrics-listen HOST:PORT` | `SAMPAN_PROXY_METRICS_LISTEN` |
| `sampan-proxy` started by hand | `--metrics-listen HOST:PORT` | |

`unix:PATH` in place of `HOST:PORT` listens on a unix socket. Whoever reaches the address may read, without a password:
give a loopback address or one of a network you trust. `0.0.0.0` is refused: the whole service range is local to a node,
so that would take the port from every service. The usual ports are 9101 for the agent and 9102 for the proxy; `make up`
has them on the nodes' own addresses in the compose network.
An address in use is logged and tried again; it keeps neither agent nor proxy from working. One address serves one node:
several simulated nodes in one process have no metrics.

```yaml
scrape_configs:
- job_name: sampan
  static_configs:
  - targets: [node1:9101, node1:9102, node2:9101, node2:9102]
```

A proxy's figures are those of all its workers together. When a worker dies or is done, what it had counted stays in the
counters; they begin anew when the proxy's control process does. What the kernel carries (services in nftables mode) is
counted by `sampan_proxy_kernel_...` alone. Buckets end at:

- lag: %(lag)s seconds
- calls and reports: %(call)s seconds
"""


def page() -> str:
    """The whole page."""
    bounds = {"lag": _bounds(LAG_BOUNDS), "call": _bounds(CALL_BOUNDS)}
    return "\n".join([_HEAD % bounds, *_table("Proxy", proxy.METRICS), *_table("Agent", agent.METRICS)]) + "\n"


def _bounds(values: Iterable[float]) -> str:
    return ", ".join(number(value) for value in values)


def _table(title: str, metrics: Iterable[Metric]) -> Iterable[str]:
    yield f"## {title}\n\n| name | kind | labels | |\n|---|---|---|---|"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"
    yield ""


def main() -> int:
    """Writes the page, or with --check tells by the exit code whether it is as it should be."""
    text = page().rstrip("\n") + "\n"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.name} is not what the tables say: run python -m scripts.metrics_page", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
