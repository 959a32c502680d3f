"""Errors as people read them."""

from __future__ import annotations

import grpc
import pytest

from cli import failure
from common.errors import BadRequest, Fault, Invalid, NotFound, SampanError, TooLarge, Unauthenticated, Unavailable

CODES = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "kind", "says"),
    [
        (CODES.UNAVAILABLE, "failed to connect to all addresses; last error: … Connection refused", Unavailable,
         "cannot reach the master at 10.0.0.1:7443 (connection refused)"),
        (CODES.UNAVAILABLE, "Socket closed", Unavailable, "connection lost"),
        (CODES.UNAVAILABLE, "the disk is full", Unavailable, "the disk is full"),
        (CODES.DEADLINE_EXCEEDED, "Deadline Exceeded", Unavailable, "--request-timeout"),
        (CODES.UNIMPLEMENTED, "unknown service", SampanError, "not a Sampan master"),
        (CODES.UNAUTHENTICATED, "this token has expired", Unauthenticated, "--token or SAMPAN_TOKEN"),
        (CODES.NOT_FOUND, 'pods "x" not found', NotFound, 'pods "x" not found'),
        (CODES.RESOURCE_EXHAUSTED, "too large", TooLarge, "too large"),
    ],
)  # fmt: skip
def test_grpc_statuses_say_what_to_do(code: CODES, details: str, kind: type[SampanError], says: str) -> None:
    found = failure.explain(code.name, details, "10.0.0.1:7443")
    assert type(found) is kind
    assert says in str(found)


def test_the_unreachable_master_is_told_with_address_and_remedies() -> None:
    text = str(failure.explain("UNAVAILABLE", "failed to connect", "1.2.3.4:5"))
    assert all(word in text for word in ("1.2.3.4:5", "--master", "SAMPAN_MASTER", "make up"))


def test_one_bullet_a_fault() -> None:
    faults = (Fault("spec.replicas", "must be at least 0; got -1"), Fault("metadata.labels[a b]", "bad key"))
    expected = (
        'ReplicationController "web" is invalid:\n'
        "  * spec.replicas: must be at least 0; got -1\n  * metadata.labels[a b]: bad key"
    )
    invalid = Invalid('ReplicationController "web"', faults)
    assert failure.message(invalid) == expected
    # The same as it comes from the master, as text.
    assert failure.message(BadRequest(str(invalid))) == expected


def test_other_errors_are_one_line() -> None:
    assert failure.message(NotFound('pods "x" not found')) == 'pods "x" not found'
    assert (
        failure.message(FileNotFoundError(2, "No such file or directory", "x.db")) == "x.db: No such file or directory"
    )
    assert failure.known(NotFound("x")) and not failure.known(KeyError("x"))
