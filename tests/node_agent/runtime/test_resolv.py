"""The shared resolv.conf files."""

from __future__ import annotations

from pathlib import Path

from node_agent.runtime.docker.resolv import resolv_file


def test_one_file_for_each_content_readable_by_all(tmp_path: Path) -> None:
    first, again, other = (resolv_file(tmp_path, text) for text in ("a\n", "a\n", "b\n"))
    assert first == again != other
    assert first.read_text() == "a\n"
    assert first.stat().st_mode & 0o777 == 0o644
    assert len(list(first.parent.iterdir())) == 2
