"""Archives there and back; nothing of a container's is written outside of the destination."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from cli.archive import Escape, inside, pack, unpack


def archive(*entries: tuple[str, bytes, str]) -> io.BytesIO:
    """Entries of (name, type, content or goal)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name, kind, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
            else:
                entry.linkname = text
            made.addfile(entry, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed


def test_there_and_back(tmp_path: Path) -> None:
    source, told = tmp_path / "source", list[str]()
    (source / "sub").mkdir(parents=True)
    (source / "a").write_bytes(b"a" * 100_000)
    (source / "sub" / "b").write_bytes(b"b")
    (source / "sub" / "b").chmod(0o751)
    (source / "sub").chmod(0o500)
    (source / "link").symlink_to("sub/b")
    os.mkfifo(source / "pipe")
    packed = io.BytesIO()
    pack(source, "top", packed, (7, 8), told.append)
    assert len(told) == 1 and "pipe" in told[0]
    packed.seek(0)
    with tarfile.open(fileobj=packed) as made:
        assert {(entry.uid, entry.gid, entry.uname) for entry in made} == {(7, 8, "")}
    packed.seek(0)
    assert unpack(packed, tmp_path / "back", told.append) == 3
    back = tmp_path / "back"
    assert (back / "a").read_bytes() == b"a" * 100_000 and (back / "sub" / "b").read_bytes() == b"b"
    assert (back / "sub" / "b").stat().st_mode & 0o777 == 0o751 and (back / "sub").stat().st_mode & 0o777 == 0o500
    assert os.readlink(back / "link") == "sub/b"


@pytest.mark.parametrize("name", ["../x", "top/../../x", "/etc/x", "", ".", "top/\0"])
def test_names_that_lead_outside(name: str) -> None:
    with pytest.raises(Escape):
        inside(Path("/somewhere"), name)


def test_links_that_lead_outside_are_left_out_and_never_written_through(tmp_path: Path) -> None:
    told: list[str] = []
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    count = unpack(
        archive(
            ("top", tarfile.DIRTYPE, ""),
            ("top/away", tarfile.SYMTYPE, str(outside)),
            ("top/up", tarfile.SYMTYPE, "../outside"),
            ("top/away/file", tarfile.REGTYPE, "x"),
        ),
        target,
        told.append,
    )
    assert count == 1 and list(outside.iterdir()) == [] and (target / "away" / "file").read_text() == "x"
    assert len(told) == 2 and all("left out" in line for line in told)


def test_a_link_that_was_here_before_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    target = tmp_path / "target"
    target.mkdir()
    (target / "dir").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    with pytest.raises(Escape):
        unpack(archive(("top/dir/new", tarfile.REGTYPE, "x")), target, print)
    assert unpack(archive(("top/file", tarfile.REGTYPE, "theirs")), target, print) == 1
    assert (outside / "file").read_text() == "mine" and (target / "file").read_text() == "theirs"


def test_hard_links_are_files_of_the_same_copy(tmp_path: Path) -> None:
    entries = (("top/a", tarfile.REGTYPE, "x"), ("top/b", tarfile.LNKTYPE, "top/a"))
    assert unpack(archive(*entries), tmp_path / "t", print) == 2
    assert (tmp_path / "t" / "b").read_text() == "x"
    with pytest.raises(Escape):
        unpack(archive(("top/b", tarfile.LNKTYPE, "top/none")), tmp_path / "u", print)
