"""Figures for Prometheus: what a metric is, histograms, and the text that a scrape gets; pure.

The text is Prometheus' exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper bounds in seconds, from what a healthy loop or call takes to what somebody should look at.
LAG_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.5)
CALL_BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0)


@dataclass(frozen=True)
class Metric:
    """One named figure. `labels` are the names of what tells its series apart."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Histogram:
    """Counts of observations by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        # One more than bounds: what is above them all.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def to_json(self) -> dict[str, float]:
        """Counts by bound (each for itself) and their `sum`; what several say may be added up name by name."""
        names = [*(number(bound) for bound in self.bounds), "+Inf"]
        return {**dict(zip(names, self.counts, strict=True)), "sum": round(self.total, 6)}

    @classmethod
    def from_json(cls, counts: Mapping[str, float]) -> Histogram:
        """The histogram that was said by `to_json`."""
        bounds = sorted(float(name) for name in counts if name not in ("+Inf", "sum"))
        made = cls(tuple(bounds))
        made.counts = [*(int(counts[number(bound)]) for bound in bounds), int(counts.get("+Inf", 0))]
        made.total = counts.get("sum", 0.0)
        return made


class Rising:
    """Keeps counters from falling when a part of what they add up is gone: a fall would read as a restart."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._lost: dict[str, float] = {}

    def __call__(self, name: str, value: float) -> float:
        """The counter's value for the scrape, given the sum of what is there now."""
        last = self._last.get(name, 0.0)
        if value < last:
            self._lost[name] = self._lost.get(name, 0.0) + last - value
        self._last[name] = value
        return value + self._lost.get(name, 0.0)


Value = float | Histogram
Reading = tuple[Metric, Value | Mapping[tuple[str, ...], Value]]


def render(readings: Iterable[Reading]) -> str:
    """The scrape's text; a reading of a metric with labels maps their values to figures."""
    lines: list[str] = []
    for metric, reading in readings:
        lines.append(f"# HELP {metric.name} {_escape(metric.help, quotes=False)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        series = reading if isinstance(reading, Mapping) else {(): reading}
        for values, value in sorted(series.items()):
            labels = dict(zip(metric.labels, values, strict=True))
            if isinstance(value, Histogram):
                lines += _histogram(metric.name, labels, value)
            else:
                lines.append(f"{metric.name}{_labels(labels)} {number(value)}")
    return "".join(f"{line}\n" for line in lines)


def _histogram(name: str, labels: Mapping[str, str], histogram: Histogram) -> Iterable[str]:
    count = 0
    for bound, own in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        count += own
        yield f"{name}_bucket{_labels({**labels, 'le': number(bound)})} {count}"
    yield f"{name}_sum{_labels(labels)} {number(histogram.total)}"
    yield f"{name}_count{_labels(labels)} {count}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def number(value: float) -> str:
    """A figure as the format writes it: whole numbers without a point."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
