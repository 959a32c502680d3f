"""A watcher with selectors sees exactly the objects that match, come and go: compared with a list at every step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from common.kinds import CONFIG_MAP
from master.api.watching import View
from master.store.store import Change, clone
from protos import control_pb2, core_pb2

Event = control_pb2.WatchEvent
NAMES, SPACES, LABELS = ("a", "b"), ("one", "two"), ("x", "y", "")

steps = st.lists(
    st.tuples(st.sampled_from(SPACES), st.sampled_from(NAMES), st.sampled_from(LABELS), st.booleans()), max_size=12
)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_watch_adds_up_to_a_list(todo: list[tuple[str, str, str, bool]]) -> None:
    view = View(CONFIG_MAP, "one", "app=x", "metadata.name!=b")
    there: dict[tuple[str, str], core_pb2.ConfigMap] = {}
    seen: dict[tuple[str, str], core_pb2.ConfigMap] = {}
    for revision, (space, name, label, remove) in enumerate(todo, start=1):
        key, old = (space, name), there.get((space, name))
        if remove and old is None:
            continue
        obj = clone(old) if old is not None else core_pb2.ConfigMap()
        obj.metadata.name, obj.metadata.namespace = name, space
        obj.metadata.resourceVersion = str(revision)
        if remove:
            del there[key]
            change = Change("DELETED", ("ConfigMap", *key), obj, old, revision)
        else:
            obj.metadata.labels["app"] = label
            there[key] = obj
            change = Change("MODIFIED" if old is not None else "ADDED", ("ConfigMap", *key), obj, old, revision)
        event = view.event(change)
        if event is not None:
            given_object = event.object.configmap
            assert event.resource_version == str(revision) == given_object.metadata.resourceVersion
            assert (key in seen) is (event.type != Event.ADDED)
            if event.type == Event.DELETED:
                del seen[key]
            else:
                seen[key] = given_object
        assert seen == {at: one for at, one in there.items() if view.holds(one)}
