"""How errors are told: what gRPC says in our words, one line on stderr, a bullet a fault where an object is invalid."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from common.errors import BadRequest, Invalid, SampanError, TooLarge, Unauthenticated, Unavailable, from_status

# The master joins faults by "; "; each opens with the path of its field.
_FAULT = re.compile(r"; (?=[A-Za-z][\w.$-]*(?:\[[^\]]*\][\w.-]*)*: )")
_INVALID = re.compile(r"(?P<subject>.{1,300}? is invalid): (?P<faults>.*)", re.DOTALL)

# What gRPC itself says, on either side, of a message above its limit.
_MESSAGE_SIZE = re.compile(r"message larger than max \((?P<size>\d+) vs\. (?P<most>\d+)\)")

# What gRPC says when no connection came about, or it broke: then the address is the first thing to look at.
_NO_CONNECTION = ("failed to connect", "resolving", "Socket closed", "Connection reset", "recvmsg", "GOAWAY", "EOF")
_CAUSES = {
    "Connection refused": "connection refused",
    "refused": "connection refused",
    "name not found": "no such host",
    "resolving": "no such host",
    "imed out": "no answer",
    "imeout": "no answer",
}


class Failed(SampanError):
    """Some of several things failed and each was told already: only the exit code is left to say."""


def known(error: Exception) -> bool:
    """Whether this is an error to tell in a line rather than a bug."""
    return isinstance(error, SampanError | OSError | TimeoutError)


def message(error: Exception) -> str:
    """What a person reads after "error: "; several lines where there are several faults."""
    if isinstance(error, Invalid):
        return _bullets(f"{error.subject} is invalid" if error.subject else "invalid", map(str, error.faults))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error) or type(error).__name__
    found = _INVALID.fullmatch(text) if isinstance(error, BadRequest) else None
    return _bullets(found["subject"], _FAULT.split(found["faults"])) if found else text


def _bullets(subject: str, faults: Iterable[str]) -> str:
    return "\n".join([f"{subject}:", *(f"  * {fault}" for fault in faults)])


def report(error: Exception) -> None:
    """Tells an error on stderr."""
    if not isinstance(error, Failed):
        click.echo(f"error: {message(error)}", err=True)


def warn(text: str) -> None:
    """Tells a warning on stderr."""
    click.echo(f"Warning: {text}", err=True)


def explain(code: str, details: str, address: str) -> SampanError:
    """Our error for a gRPC status (by its name), with what to do where the user can do something."""
    match code:
        case "UNAVAILABLE" if any(mark in details for mark in _NO_CONNECTION):
            cause = next((words for mark, words in _CAUSES.items() if mark in details), "connection lost")
            return Unavailable(
                f"cannot reach the master at {address} ({cause}): is it running? `make up` starts a cluster here; "
                "--master HOST:PORT or SAMPAN_MASTER names another one"
            )
        case "DEADLINE_EXCEEDED":
            return Unavailable(f"the master at {address} did not answer in time: try again or raise --request-timeout")
        case "UNIMPLEMENTED":
            return SampanError(
                f"what answers at {address} is not a Sampan master, or one of another version ({details}): "
                "check --master or SAMPAN_MASTER, and `sampan version`"
            )
        case "UNAUTHENTICATED":
            remedy = "" if "SAMPAN_TOKEN" in details else ": give a valid token with --token or SAMPAN_TOKEN"
            return Unauthenticated(details + remedy)
        case "RESOURCE_EXHAUSTED" if found := _MESSAGE_SIZE.search(details):
            return TooLarge(
                f"the message is too large: {found['size']} bytes, at most {found['most']} bytes travel at once; "
                "an object may have about 1 MiB, so split it into several"
            )
        case "RESOURCE_EXHAUSTED":
            return TooLarge(details)
    return from_status(code, details)
