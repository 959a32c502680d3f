"""Join tokens: what lets a machine in, and why one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import BadRequest, NotFound, Unauthenticated
from master.api.resources import Resources
from master.api.tokens import (
    create_join_token,
    list_join_tokens,
    revoke_join_token,
    verify_join_token,
    write_bootstrap_token,
)
from tests.master.api.conftest import Clock


async def test_a_good_token_lets_in_until_it_expires(resources: Resources, clock: Clock) -> None:
    made = await create_join_token(resources, clock.now, ttl_seconds=60, description="lab")
    verify_join_token(resources, made.token, clock.now)
    verify_join_token(resources, f" {made.token}\n", clock.now + 59)
    with pytest.raises(Unauthenticated, match=rf"expired at {made.info.expires}"):
        verify_join_token(resources, made.token, clock.now + 60)
    (listed,) = list_join_tokens(resources, clock.now + 61)
    assert listed.expired and listed.description == "lab" and listed.created


@pytest.mark.parametrize("token", ["", "x", "abc.def", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef.x"])
def test_malformed_tokens(resources: Resources, token: str) -> None:
    with pytest.raises(Unauthenticated, match="malformed"):
        verify_join_token(resources, token, 0)


async def test_wrong_and_revoked_tokens(resources: Resources, clock: Clock) -> None:
    made = await create_join_token(resources, clock.now)
    with pytest.raises(Unauthenticated, match="wrong"):
        verify_join_token(resources, f"{made.info.id}.{'0' * 32}", clock.now)
    with pytest.raises(Unauthenticated, match="unknown or was revoked"):
        verify_join_token(resources, f"zzzzzz.{'0' * 32}", clock.now)
    assert await revoke_join_token(resources, made.token) == made.info.id
    with pytest.raises(Unauthenticated, match="unknown or was revoked"):
        verify_join_token(resources, made.token, clock.now)
    with pytest.raises(NotFound):
        await revoke_join_token(resources, made.info.id)
    with pytest.raises(NotFound):
        await revoke_join_token(resources, "")


async def test_only_a_hash_is_stored(resources: Resources, clock: Clock) -> None:
    made = await create_join_token(resources, clock.now)
    secret = made.token.partition(".")[2].encode()
    (stored,) = resources.list("Secret", "kube-system", field_selector="type=bootstrap.kubernetes.io/token")
    assert stored.metadata.name == f"bootstrap-token-{made.info.id}"
    assert secret not in stored.SerializeToString()


@pytest.mark.parametrize("ttl", [-1, 10**12])
async def test_absurd_times(resources: Resources, ttl: int) -> None:
    with pytest.raises(BadRequest, match="ttl_seconds"):
        await create_join_token(resources, 0, ttl_seconds=ttl)


async def test_the_bootstrap_token_is_kept_while_it_is_good(resources: Resources, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "shared" / "join.token"
    token = await write_bootstrap_token(resources, path, clock.now)
    assert path.read_text().strip() == token and path.stat().st_mode & 0o777 == 0o600
    verify_join_token(resources, token, clock.now + 10**9)
    assert await write_bootstrap_token(resources, path, clock.now) == token
    await revoke_join_token(resources, token)
    assert await write_bootstrap_token(resources, path, clock.now) != token
