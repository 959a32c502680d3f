"""The image of a pod's sandbox, made here: a tar with one static program that sleeps for ever.

No registry and no compiler is needed. The program is a few machine instructions in a minimal ELF file:
wait for a signal, again and again. As process 1 it ignores every signal but SIGKILL, which is how it ends.
"""

from __future__ import annotations

import io
import struct
import tarfile

REFERENCE = "sampan/pause:1"
PROGRAM = "/pause"

_ELF_MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN, _ELF_VERSION, _ABI_NONE = 2, 1, 1, 0
_TYPE_EXECUTABLE = 2
_MACHINE_X86_64, _MACHINE_AARCH64 = 62, 183
_SEGMENT_LOAD, _READ_EXECUTE = 1, 5
_PAGE = 0x1000
_LOAD_ADDRESS = 0x400000
_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")

_X86_64_PAUSE = 34
_X86_64 = b"".join(
    (
        b"\xb8" + struct.pack("<I", _X86_64_PAUSE),  # mov eax, pause
        b"\x0f\x05",  # syscall
        b"\xeb\xf7",  # jmp to the start, 9 bytes back
    )
)

_AARCH64_PPOLL = 73  # arm64 has no pause; ppoll with nothing to poll is the same
_MOVZ_X, _SVC_0, _B_BACK_7 = 0xD2800000, 0xD4000001, 0x17FFFFF9


def _movz(register: int, value: int) -> int:
    return _MOVZ_X | value << 5 | register


_AARCH64 = struct.pack(
    "<8I",
    _movz(0, 0),  # no descriptors
    _movz(1, 0),
    _movz(2, 0),  # no time limit
    _movz(3, 0),  # no signal mask
    _movz(4, 0),
    _movz(8, _AARCH64_PPOLL),
    _SVC_0,
    _B_BACK_7,
)

_CODE = {
    "x86_64": (_MACHINE_X86_64, _X86_64),
    "amd64": (_MACHINE_X86_64, _X86_64),
    "aarch64": (_MACHINE_AARCH64, _AARCH64),
    "arm64": (_MACHINE_AARCH64, _AARCH64),
}


def program(architecture: str) -> bytes:
    """The ELF file for an engine's architecture (its own word or Docker's). ValueError for others."""
    if architecture not in _CODE:
        raise ValueError(f"no sandbox program for architecture {architecture!r}: x86_64 and aarch64 are known")
    machine, code = _CODE[architecture]
    offset = _HEADER.size + _SEGMENT.size
    size = offset + len(code)
    header = _HEADER.pack(
        _ELF_MAGIC, _CLASS_64, _LITTLE_ENDIAN, _ELF_VERSION, _ABI_NONE, _TYPE_EXECUTABLE, machine, _ELF_VERSION,
        _LOAD_ADDRESS + offset, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 1, 0, 0, 0,
    )  # fmt: skip
    segment = _SEGMENT.pack(_SEGMENT_LOAD, _READ_EXECUTE, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, _PAGE)
    return header + segment + code


def root_filesystem(architecture: str) -> bytes:
    """A tar of the image's files, the same bytes every time."""
    content = program(architecture)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(PROGRAM.lstrip("/"))
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
