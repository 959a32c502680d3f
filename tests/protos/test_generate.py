from __future__ import annotations

from protos import generate


def test_the_generated_code_is_current() -> None:
    assert generate.main(["--check"]) == 0


def test_differences_are_named() -> None:
    wanted = {"a_pb2.py": b"1", "b_pb2.py": b"1", "c_pb2.py": b"1"}
    present = {"a_pb2.py": b"1", "b_pb2.py": b"2", "d_pb2.py": b"1"}
    assert generate.differences(wanted, present) == [
        "protos/c_pb2.py: missing",
        "protos/d_pb2.py: has no .proto file",
        "protos/b_pb2.py: differs from its .proto file",
    ]
