"""What makes and ends tokens, without a network: tests/integration/test_access.py has one."""

from typing import Any

import pytest

from gateway.controlplane.access.keeper import Access, Keeper
from gateway.controlplane.access.roles import ALL, Role, Roles
from gateway.controlplane.api.tokens import Tokens
from gateway.errors import CutoverError, InvalidRequest, NotFound, Refused
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World

GRANTS = {"unix:": Roles({ALL: Role.OWNER})}


def room(world: World, grants: dict[str, Roles] | None = None) -> Tokens:
    return Tokens(Keeper(world.store, Access(grants or {}), lambda: world.now_ms), lambda: world.now_ms)


def asked(name: str = "ci", seconds: int | None = None, **fields: Any) -> pb.CreateTokenRequest:
    request = pb.CreateTokenRequest(token_id=name, **({"roles": {ALL: pb.OWNER}} | fields))
    if seconds is not None:
        request.ttl.FromSeconds(seconds)
    return request


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (asked(""), "token_id must be"),
        (asked("Ada"), "token_id must be"),
        (asked("a_b"), "token_id must be"),
        (asked("x" * 64), "token_id must be"),
        (asked(roles={}), "roles must be for 1 to 100"),
        (asked(roles={f"m{number}": pb.VIEWER for number in range(101)}), "roles must be for 1 to 100"),
        (asked(roles={"a/b": pb.VIEWER}), "neither the name of a model"),
        (asked(roles={"iris": pb.ROLE_UNSPECIFIED}), "iris needs VIEWER, OPERATOR or OWNER"),
        (asked(seconds=0), "ttl must be"),
        (asked(seconds=-1), "ttl must be"),
        (asked(seconds=11 * 366 * 86_400), "ttl must be"),
        (asked(reason="x" * 1_001), "reason has 1001 characters"),
        (asked(reason="a\0b"), "reason has a zero byte"),
    ],
)
async def test_what_makes_no_sense_is_said(world: World, request_: pb.CreateTokenRequest, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await room(world).CreateToken(request_, world.context)
    assert await world.store.tokens() == []


async def test_a_token_is_kept_without_its_secret(world: World) -> None:
    made = await room(world).CreateToken(asked(seconds=60, reason="nightly"), world.context)
    (kept,) = await world.store.tokens()
    assert (kept.id, kept.roles, kept.created_by) == ("ci", {ALL: "owner"}, "ada")
    assert kept.expires_ms == kept.created_ms + 60_000
    assert made.token.expire_time.ToMilliseconds() == kept.expires_ms
    assert made.secret.startswith("cutover_ci_")
    assert made.secret not in str(kept)
    event, *_ = await world.store.events(None, 1, None)
    assert (event.kind, event.verb, event.actor, event.reason) == ("access", "create-token", "ada", "nightly")
    assert kept.hash not in event.after


async def test_nothing_is_made_that_is_only_validated(world: World) -> None:
    made = await room(world).CreateToken(asked(validate_only=True), world.context)
    assert (made.token.name, made.secret, await world.store.tokens()) == ("tokens/ci", "", [])


async def test_an_event_about_one_model_is_that_models(world: World) -> None:
    tokens = room(world, GRANTS)
    await tokens.CreateToken(asked("one", roles={"iris": pb.VIEWER}), world.context)
    await tokens.CreateToken(asked("two", roles={"iris": pb.VIEWER, "wine": pb.VIEWER}), world.context)
    events = await world.store.events(None, 2, None)
    assert [event.model for event in events] == ["", "iris"]


async def test_tokens_are_listed_in_pages(world: World) -> None:
    tokens = room(world)
    for name in ("a", "b", "c"):
        await tokens.CreateToken(asked(name), world.context)
    first = await tokens.ListTokens(pb.ListTokensRequest(page_size=2), world.context)
    rest = await tokens.ListTokens(pb.ListTokensRequest(page_token=first.next_page_token), world.context)
    assert [one.name for one in (*first.tokens, *rest.tokens)] == ["tokens/a", "tokens/b", "tokens/c"]
    assert rest.next_page_token == ""


async def test_a_token_is_revoked_once(world: World) -> None:
    tokens = room(world, GRANTS)
    await tokens.CreateToken(asked(), world.context)
    looked = await tokens.RevokeToken(pb.RevokeTokenRequest(name="tokens/ci", validate_only=True), world.context)
    assert looked.HasField("revoke_time")
    assert (await world.store.tokens())[0].revoked_ms == 0
    first = await tokens.RevokeToken(pb.RevokeTokenRequest(name="tokens/ci"), world.context)
    world.now_ms += 5
    assert await tokens.RevokeToken(pb.RevokeTokenRequest(name="tokens/ci"), world.context) == first
    assert [event.verb for event in await world.store.events(None, 2, None)] == ["revoke-token", "create-token"]


@pytest.mark.parametrize(
    ("name", "error"), [("ci", InvalidRequest), ("tokens/", InvalidRequest), ("tokens/x", NotFound)]
)
async def test_only_a_token_can_be_revoked(world: World, name: str, error: type[CutoverError]) -> None:
    with pytest.raises(error):
        await room(world).RevokeToken(pb.RevokeTokenRequest(name=name), world.context)


async def test_somebody_stays_who_can_make_tokens(world: World) -> None:
    tokens = room(world)
    with pytest.raises(Refused, match="the first token"):
        await tokens.CreateToken(asked(roles={ALL: pb.OPERATOR}), world.context)
    await tokens.CreateToken(asked("boss"), world.context)
    await tokens.CreateToken(asked("soon", seconds=1), world.context)
    world.now_ms += 1_000
    with pytest.raises(Refused, match="boss is the last owner"):
        await tokens.RevokeToken(pb.RevokeTokenRequest(name="tokens/boss"), world.context)
    await tokens.CreateToken(asked("other"), world.context)
    assert (await tokens.RevokeToken(pb.RevokeTokenRequest(name="tokens/boss"), world.context)).HasField("revoke_time")
