"""The latest value per pod is said, an unacknowledged report is not lost."""

from __future__ import annotations

from node_agent.reporter import EVENTS_PER_REPORT, Reporter
from protos import agent_pb2, core_pb2


def pod(uid: str, phase: str = "Running", gone: bool = False) -> agent_pb2.PodReport:
    return agent_pb2.PodReport(uid=uid, name=uid, status=core_pb2.PodStatus(phase=phase), gone=gone)


def event(text: str) -> agent_pb2.AgentEvent:
    return agent_pb2.AgentEvent(reason="X", message=text)


def started(*statuses: agent_pb2.PodReport) -> Reporter:
    reporter = Reporter()
    reporter.restart("s", statuses)
    return reporter


def test_the_first_report_is_complete_and_later_ones_say_what_is_new() -> None:
    reporter = started(pod("a"), pod("b"))
    first = reporter.take()
    assert first.complete and first.sequence == 1 and [p.uid for p in first.pods] == ["a", "b"]
    reporter.acked()
    assert not reporter.news.is_set()
    reporter.put(pod("a", "Pending"))
    reporter.put(pod("a", "Failed"))
    assert reporter.news.is_set()
    second = reporter.take()
    assert not second.complete and second.sequence == 2
    assert [(p.uid, p.status.phase) for p in second.pods] == [("a", "Failed")]
    reporter.acked()
    assert not reporter.take().pods, "a heartbeat says nothing twice"


def test_what_somebody_waits_for_is_urgent_and_the_rest_is_not() -> None:
    reporter = started()
    assert reporter.urgent.is_set(), "a session begins with everything"
    reporter.take()
    reporter.event(event("Pulled"))
    assert reporter.news.is_set() and not reporter.state.is_set(), "events go along with the next status"
    reporter.put(pod("a", "Pending"))
    assert reporter.state.is_set() and not reporter.urgent.is_set()
    for report in (pod("a"), pod("a", "Pending", gone=True)):
        reporter.put(report)
        assert reporter.urgent.is_set()
        reporter.take()
        assert not reporter.urgent.is_set()
    reporter.node(agent_pb2.NodeStatusReport(used={"cpu": "1"}))
    assert reporter.urgent.is_set()


def test_news_during_a_flight_waits_for_the_next_report() -> None:
    reporter = started()
    reporter.take()
    reporter.put(pod("a"))
    reporter.acked()
    assert reporter.news.is_set()
    assert [p.uid for p in reporter.take().pods] == ["a"]


def test_a_lost_report_comes_again_in_the_next_session() -> None:
    reporter = started()
    reporter.acked()
    reporter.event(event("one"))
    reporter.put(pod("gone", gone=True))
    reporter.put(pod("a", "Pending"))
    reporter.take()
    reporter.event(event("two"))
    reporter.restart("s2", [pod("a", "Running")])
    report = reporter.take()
    assert report.session_id == "s2" and report.sequence == 1 and report.complete
    assert {p.uid: p.gone for p in report.pods} == {"gone": True, "a": False}
    assert [e.message for e in report.events] == ["one", "two"]


def test_the_nodes_status_is_said_when_it_changes_and_in_every_session() -> None:
    reporter = started()
    reporter.node(agent_pb2.NodeStatusReport(images=["x"]))
    assert reporter.take().HasField("node")
    reporter.acked()
    reporter.node(agent_pb2.NodeStatusReport(images=["x"]))
    assert not reporter.take().HasField("node")
    reporter.node(agent_pb2.NodeStatusReport(images=["y"]))
    assert reporter.take().HasField("node")
    reporter.restart("s2", [])
    assert reporter.take().HasField("node")


def test_events_are_bounded_a_report_and_in_all() -> None:
    reporter = started()
    for number in range(2000):
        reporter.event(event(str(number)))
    first = reporter.take()
    assert len(first.events) == EVENTS_PER_REPORT and first.events[0].message == "1500"
    reporter.acked()
    assert reporter.state.is_set(), "those that are left over wait no longer"
    assert reporter.take().events[0].message == str(1500 + EVENTS_PER_REPORT)
