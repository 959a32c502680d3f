"""The sandbox's program: valid ELF, and on this machine it really waits."""

from __future__ import annotations

import io
import platform
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from node_agent.runtime.sandbox_image import program, root_filesystem


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("amd64", 62), ("aarch64", 183), ("arm64", 183)])
def test_header(architecture: str, machine: int) -> None:
    content = program(architecture)
    assert content[:4] == b"\x7fELF"
    kind, found = struct.unpack_from("<HH", content, 16)
    assert (kind, found) == (2, machine)
    (entry,) = struct.unpack_from("<Q", content, 24)
    segment_type, flags, offset, address, _, size, memory, align = struct.unpack_from("<IIQQQQQQ", content, 64)
    assert (segment_type, flags, offset) == (1, 5, 0)
    assert size == memory == len(content)
    assert address <= entry < address + size and address % align == 0


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="no sandbox program for architecture 'riscv64'"):
        program("riscv64")


def test_file_system_has_one_program() -> None:
    content = root_filesystem("x86_64")
    assert content == root_filesystem("x86_64")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mode, entry.isfile()) == ("pause", 0o755, True)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program for this machine")
def test_it_waits_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pause"
    path.write_bytes(program(platform.machine()))
    path.chmod(0o755)
    process = subprocess.Popen([str(path)])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        # Asleep in the kernel, not spinning.
        assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    finally:
        process.kill()
        assert process.wait() == -9
