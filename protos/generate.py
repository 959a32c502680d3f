"""Makes the Python code beside the .proto files, and says whether the committed code still matches them.

``python -m protos.generate`` writes; with ``--check`` it writes nothing and exits 1 naming what differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
WELL_KNOWN = Path(protoc.__file__).resolve().parent / "_proto"
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class GenerateError(Exception):
    """protoc refused the sources; its own words are on stderr."""


def generate(into: Path) -> None:
    """Runs protoc over every .proto file; the code lands in ``into / "protos"``.

    Raises GenerateError when protoc fails.
    """
    root = HERE.parent
    # The plugins are scripts beside the interpreter, which need not be on PATH.
    scripts = Path(sys.executable).parent
    sources = sorted(f"protos/{path.name}" for path in HERE.glob("*.proto"))
    services = [name for name in sources if "\nservice " in (root / name).read_text()]

    def run(names: list[str], *outputs: str) -> None:
        if names and protoc.main(["protoc", f"-I{root}", f"-I{WELL_KNOWN}", *outputs, *names]) != 0:
            raise GenerateError("protoc failed; its message is above")

    run(
        sources,
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--python_out={into}",
        f"--mypy_out=quiet:{into}",
    )
    # Files without a service would get an empty _grpc module each.
    run(
        services,
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--grpc_python_out={into}",
        f"--mypy_grpc_out=quiet:{into}",
    )


def generated(folder: Path) -> dict[str, bytes]:
    """The generated files in a folder, by name."""
    return {path.name: path.read_bytes() for pattern in PATTERNS for path in folder.glob(pattern)}


def differences(wanted: dict[str, bytes], present: dict[str, bytes]) -> list[str]:
    """One line per file that is missing, stale or left over; empty when all is well."""
    lines = [f"protos/{name}: missing" for name in sorted(wanted.keys() - present.keys())]
    lines += [f"protos/{name}: has no .proto file" for name in sorted(present.keys() - wanted.keys())]
    lines += [
        f"protos/{name}: differs from its .proto file"
        for name in sorted(wanted.keys() & present.keys())
        if wanted[name] != present[name]
    ]
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Returns the process's exit code: 0 for done or equal, 1 for differing or failed."""
    parser = argparse.ArgumentParser(prog="python -m protos.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the code is stale")
    check: bool = parser.parse_args(arguments).check
    with tempfile.TemporaryDirectory() as folder:
        try:
            generate(Path(folder))
        except GenerateError as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 1
        wanted = generated(Path(folder) / "protos")
    present = generated(HERE)
    stale = differences(wanted, present)
    if check:
        for line in stale:
            print(line, file=sys.stderr)  # noqa: T201
        if stale:
            print("run: make proto", file=sys.stderr)  # noqa: T201
        return 1 if stale else 0
    for name in present.keys() - wanted.keys():
        (HERE / name).unlink()
    for name, content in wanted.items():
        if present.get(name) != content:
            (HERE / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
