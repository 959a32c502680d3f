from __future__ import annotations

from common import fieldtable
from common.kinds import KINDS


def test_the_page_is_current() -> None:
    assert fieldtable.main(["--check"]) == 0


def test_the_page_says_what_happens_to_a_field() -> None:
    page = fieldtable.render()
    assert "| hostPID | true or false | refused |" in page
    assert "| sessionAffinity | text | yes |" in page
    assert "| emptyDir | [EmptyDirVolumeSource](#emptydirvolumesource) | yes |" in page
    assert all(f"### {kind.kind}\n" in page for kind in KINDS)
    assert "### VolumeSource\n" not in page
