"""docs/metrics.md is what the tables of metrics say."""

from __future__ import annotations

from node_agent import metrics as agent
from proxy import metrics as proxy
from scripts import metrics_page


def test_the_page_is_current() -> None:
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page().rstrip("\n") + "\n", (
        "run python -m scripts.metrics_page"
    )


def test_every_metric_is_in_it() -> None:
    page = metrics_page.page()
    for metric in (*proxy.METRICS, *agent.METRICS):
        assert f"`{metric.name}`" in page
