"""Directory sizes."""

from __future__ import annotations

from pathlib import Path

from node_agent.care.sizes import tree_bytes


def test_sizes(tmp_path: Path) -> None:
    assert tree_bytes(tmp_path / "none") == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    before = tree_bytes(tmp_path)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "link").symlink_to("/")
    grown = tree_bytes(tmp_path) - before
    assert 100_000 <= grown < 130_000
