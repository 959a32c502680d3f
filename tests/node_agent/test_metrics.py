"""The agent's figures, and the timing of every runtime call."""

from __future__ import annotations

import pytest

from common.errors import NotFound
from node_agent.config import parse
from node_agent.metrics import METRICS, AgentMetrics, Figures
from node_agent.runtime.metered import metered
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.supervisor import proxy_words
from protos import agent_pb2, core_pb2


def pod(name: str, phase: str, restarts: int = 0, *, gone: bool = False) -> agent_pb2.PodReport:
    container = core_pb2.ContainerStatus(name="c", restartCount=restarts)
    status = core_pb2.PodStatus(phase=phase, containerStatuses=[container])
    return agent_pb2.PodReport(uid=name, namespace="default", name=name, status=status, gone=gone)


def test_every_metric_has_a_name_of_ours_and_a_sentence() -> None:
    for metric in METRICS:
        assert metric.name.startswith("sampan_agent_") and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_pods_by_phase_and_restarts_by_container() -> None:
    metrics = AgentMetrics()
    metrics.runtime_call("start", 0.01, "")
    metrics.runtime_call("start", 40.0, "ServiceUnavailable")
    pods = [pod("a", "Running", 3), pod("b", "Running"), pod("new", ""), pod("old", "Failed", 9, gone=True)]
    text = metrics.text(Figures(True, 2, pods, 7, 6, 40, 39, True))
    for line in (
        "sampan_agent_session_up 1",
        "sampan_agent_sessions_total 2",
        'sampan_agent_pods{phase="Running"} 2',
        'sampan_agent_pods{phase="Pending"} 1',
        'sampan_agent_pods{phase="Failed"} 0',
        'sampan_agent_container_restarts_total{namespace="default",pod="a",container="c"} 3',
        "sampan_agent_assignments_revision 7",
        "sampan_agent_assignments_applied_revision 6",
        "sampan_agent_routes_applied_revision 39",
        'sampan_agent_runtime_call_seconds_bucket{call="start",le="0.025"} 1',
        'sampan_agent_runtime_call_seconds_bucket{call="start",le="+Inf"} 2',
        'sampan_agent_runtime_errors_total{call="start",reason="ServiceUnavailable"} 1',
    ):
        assert f"\n{line}\n" in text, line
    assert 'pod="old"' not in text
    assert [line.split()[2] for line in text.splitlines() if "# TYPE" in line] == [metric.name for metric in METRICS]


async def test_runtime_calls_are_timed_and_their_errors_named() -> None:
    heard: list[tuple[str, str]] = []
    engine = SimulatedRuntime(node="node-1")
    runtime = metered(engine, lambda call, seconds, reason: heard.append((call, reason)) if seconds >= 0 else None)
    try:
        assert await runtime.containers() == []
        with pytest.raises(NotFound):
            await runtime.start("nothing")
        assert heard == [("containers", ""), ("start", "NotFound")]
        # Endless ones are passed on as they are.
        assert runtime.hints().__aiter__() is not None
        assert [call for call, _ in heard].count("hints") == 0
    finally:
        await runtime.close()


def test_the_flags_reach_agent_and_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--metrics-listen", "127.0.0.1:9101", "--proxy-metrics-listen", "node1:9102"]
    config = parse(flags, {})
    assert (config.metrics_listen, config.proxy_metrics_listen) == ("127.0.0.1:9101", "node1:9102")
    assert proxy_words(config)[-2:] == ["--metrics-listen", "node1:9102"]
    assert "--metrics-listen" not in proxy_words(parse([], {}))
    assert parse([], {"SAMPAN_METRICS_LISTEN": "127.0.0.1:1"}).metrics_listen == "127.0.0.1:1"
    for wrong in (["--metrics-listen", "0.0.0.0:9101"], ["--proxy-metrics-listen", "9102"]):
        with pytest.raises(SystemExit):
            parse(wrong, {})
        assert f"{wrong[0]}: must" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--runtime", "simulated", "--simulate", "2", *flags], {})
    assert "is for one node" in capsys.readouterr().err
