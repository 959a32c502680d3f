"""Join tokens: what lets a machine become a node. Only a hash of each secret is stored, in a Secret of kube-system.

The Secret's name and type are Kubernetes' (bootstrap-token-ID, bootstrap.kubernetes.io/token).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from common.errors import BadRequest, NotFound, Unauthenticated
from master.api.resources import Resources
from master.api.times import parse_rfc3339, rfc3339
from protos import control_pb2, core_pb2

NAMESPACE = "kube-system"
TYPE = "bootstrap.kubernetes.io/token"
PREFIX = "bootstrap-token-"
DAY_SECONDS = 24 * 3600
# A century is as good as never and still a date that every calendar has.
LONGEST_SECONDS = 100 * 365 * DAY_SECONDS

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH, _SECRET_LENGTH = 6, 32
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16,64})")


@dataclass(frozen=True)
class NewToken:
    """`token` is shown to its maker and never again."""

    token: str
    info: control_pb2.JoinToken


async def create_join_token(
    resources: Resources, now: float, *, ttl_seconds: int = 0, description: str = "", forever: bool = False
) -> NewToken:
    """Makes a token; `ttl_seconds` 0 means one day. Raises BadRequest for a negative or absurd time."""
    if ttl_seconds < 0 or ttl_seconds > LONGEST_SECONDS:
        raise BadRequest(f"ttl_seconds: must be 0 (one day) or 1-{LONGEST_SECONDS}, got {ttl_seconds}")
    token_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    stored = core_pb2.Secret(
        metadata=core_pb2.ObjectMeta(name=PREFIX + token_id, namespace=NAMESPACE),
        type=TYPE,
        data={
            "token-id": token_id.encode(),
            "secret-sha256": _digest(secret).encode(),
            "description": description.encode(),
            "usage-bootstrap-authentication": b"true",
        },
    )
    if not forever:
        stored.data["expiration"] = rfc3339(now + (ttl_seconds or DAY_SECONDS)).encode()
    made = await resources.create(stored)
    return NewToken(f"{token_id}.{secret}", _info(made, now))


def list_join_tokens(resources: Resources, now: float) -> list[control_pb2.JoinToken]:
    """All tokens, also expired ones, without their secrets."""
    return [_info(secret, now) for secret in resources.list("Secret", NAMESPACE) if secret.type == TYPE]


async def revoke_join_token(resources: Resources, text: str) -> str:
    """Takes the id or the whole token and returns the id. Raises NotFound."""
    token_id = text.partition(".")[0].removeprefix(PREFIX)
    stored = resources.store.get("Secret", NAMESPACE, PREFIX + token_id)
    if not token_id or stored is None or stored.type != TYPE:
        raise NotFound(f'no join token has the id "{token_id}": `sampan token list` shows those there are')
    await resources.delete("Secret", NAMESPACE, PREFIX + token_id, uid=stored.metadata.uid)
    return token_id


def verify_join_token(resources: Resources, token: str, now: float) -> None:
    """Raises Unauthenticated with the reason when a machine may not join with this token.

    `now` is seconds since the epoch.
    """
    match = _TOKEN.fullmatch(token.strip())
    if match is None:
        raise Unauthenticated("the join token is malformed: it must look like abc123.0123456789abcdef (id.secret)")
    token_id, secret = match.groups()
    stored = resources.store.get("Secret", NAMESPACE, PREFIX + token_id)
    if stored is None or stored.type != TYPE:
        raise Unauthenticated(
            f"the join token {token_id} is unknown or was revoked: make a new one with `sampan token create`"
        )
    if not hmac.compare_digest(stored.data.get("secret-sha256", b""), _digest(secret).encode()):
        raise Unauthenticated(f"the secret of the join token {token_id} is wrong: copy the whole token again")
    info = _info(stored, now)
    if info.expired:
        raise Unauthenticated(
            f"the join token {token_id} expired at {info.expires}: make a new one with `sampan token create`"
        )


async def write_bootstrap_token(resources: Resources, path: Path, now: float) -> str:
    """A token that never expires, kept in a file for nodes that start with the master; returns it.

    One that is in the file already and still good is kept. The file is readable by its owner (root) only.
    """
    try:
        token = _read(path)
        verify_join_token(resources, token, now)
    except (OSError, ValueError, Unauthenticated):
        token = (await create_join_token(resources, now, description=f"written to {path.name}", forever=True)).token
        write_private(path, token + "\n")
    return token


def _read(path: Path) -> str:
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Writes a file only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _digest(secret: str) -> str:
    """The secret is random and long, so a plain hash can't be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _info(secret: core_pb2.Secret, now: float) -> control_pb2.JoinToken:
    expires = secret.data.get("expiration", b"").decode(errors="replace")
    try:
        expired = bool(expires) and parse_rfc3339(expires) <= now
    except ValueError:
        # Nobody but a person's hand writes such a date; a token we can't date is not let in.
        expired = True
    return control_pb2.JoinToken(
        id=secret.metadata.name.removeprefix(PREFIX),
        description=secret.data.get("description", b"").decode(errors="replace"),
        expires=expires,
        expired=expired,
        created=rfc3339(secret.metadata.creationTimestamp.seconds),
    )
