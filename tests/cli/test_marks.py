"""Changes of labels as written on the command line."""

from __future__ import annotations

import pytest

from cli import marks


def test_objects_and_changes_are_parted() -> None:
    what, change = marks.split(["pods", "web", "app=web", "x=a=b", "empty=", "old-"])
    assert what == ["pods", "web"]
    assert change == marks.Change({"app": "web", "x": "a=b", "empty": ""}, ("old",))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["pod", "web", "a=1", "a=2"], "twice"),
        (["pod", "web", "a=1", "a-"], "both set and removed"),
        (["pod", "a=1", "web"], "objects come first"),
        (["pod", "web", "=1"], "write KEY=VALUE"),
    ],
)
def test_contradictions_are_refused(args: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        marks.split(args)


def test_a_value_is_only_changed_with_overwrite() -> None:
    change = marks.Change({"a": "2", "b": "1"}, ("c",))
    with pytest.raises(ValueError, match='"a" is "1" already'):
        change.carry_out({"a": "1"}, overwrite=False)
    found = {"a": "1", "c": "3"}
    change.carry_out(found, overwrite=True)
    assert found == {"a": "2", "b": "1"}
    change.carry_out(found, overwrite=False)  # the same once more is no change
