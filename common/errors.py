"""The errors every role speaks, and the one table between them and gRPC's codes.

A role raises these; the edge that faces gRPC turns them into a status and back. Nothing above an edge
catches a foreign error (DockerError, AioRpcError, sqlite3.Error).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Only for code_of: gRPC's library takes longer to import than a command line may take to start.
    import grpc


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one field: `path` like `spec.containers[0].image`, `message` says what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SampanError(Exception):
    """Something the caller can act on; `str()` is one sentence for a person."""

    reason = "InternalError"


class NotFound(SampanError):
    reason = "NotFound"


class AlreadyExists(SampanError):
    reason = "AlreadyExists"


class Conflict(SampanError):
    """A compare-and-swap lost: read again and retry."""

    reason = "Conflict"


class BadRequest(SampanError):
    reason = "BadRequest"


class Invalid(SampanError):
    """The object breaks rules; `faults` lists all of them at once."""

    reason = "Invalid"

    def __init__(self, subject: str, faults: tuple[Fault, ...]) -> None:
        self.subject = subject
        self.faults = faults
        lines = "; ".join(str(fault) for fault in faults)
        super().__init__(f"{subject} is invalid: {lines}" if subject else lines)


class Expired(SampanError):
    """A revision or page token is older than what is kept: list again."""

    reason = "Expired"


class Unauthenticated(SampanError):
    reason = "Unauthorized"


class Forbidden(SampanError):
    reason = "Forbidden"


class BudgetExhausted(SampanError):
    """An eviction that a PodDisruptionBudget does not allow now: try again when more pods are healthy."""

    reason = "TooManyRequests"


class TooLarge(SampanError):
    reason = "RequestEntityTooLarge"


class Unavailable(SampanError):
    """Not now: unreachable, shutting down, disk full. Retrying may help."""

    reason = "ServiceUnavailable"


STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names of gRPC's status codes, each at its number (gRPC's page on status codes)."""

_CODES: dict[type[SampanError], str] = {
    NotFound: "NOT_FOUND",
    AlreadyExists: "ALREADY_EXISTS",
    Conflict: "ABORTED",
    BadRequest: "INVALID_ARGUMENT",
    Invalid: "INVALID_ARGUMENT",
    Expired: "OUT_OF_RANGE",
    Unauthenticated: "UNAUTHENTICATED",
    Forbidden: "PERMISSION_DENIED",
    BudgetExhausted: "FAILED_PRECONDITION",
    TooLarge: "RESOURCE_EXHAUSTED",
    Unavailable: "UNAVAILABLE",
    SampanError: "INTERNAL",
}

_ERRORS: dict[str, type[SampanError]] = {
    code: error for error, code in _CODES.items() if error not in (Invalid, SampanError)
}
_ERRORS["DEADLINE_EXCEEDED"] = Unavailable
_ERRORS["CANCELLED"] = Unavailable


def status_of(error: SampanError) -> str:
    """The name of gRPC's code for an error, by its nearest class in the table."""
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), "INTERNAL")


def code_of(error: SampanError) -> grpc.StatusCode:
    """gRPC's code for an error, as its library has it."""
    import grpc

    return grpc.StatusCode[status_of(error)]


def from_status(code: grpc.StatusCode | str, details: str | None) -> SampanError:
    """The error that a gRPC status, or its name, stands for, on the calling side."""
    name = code if isinstance(code, str) else str(code.name)
    return _ERRORS.get(name, SampanError)(details or name)
