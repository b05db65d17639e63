"""Tokens: who makes and ends them, and what the audit log says of that."""

# ruff: noqa: N802  # RPCs are named by the proto
import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from google.protobuf.duration_pb2 import Duration

from gateway.controlplane import names, pages
from gateway.controlplane.access import tokens
from gateway.controlplane.access.guard import calling
from gateway.controlplane.access.keeper import Keeper
from gateway.controlplane.access.roles import ALL, OWNER_OF_ALL, Role, Roles
from gateway.controlplane.api.caller import actor
from gateway.controlplane.audit import ACCESS, TOLD_OF_TOKENS, Draft
from gateway.controlplane.messages import token_message
from gateway.controlplane.releases import check_texts
from gateway.controlplane.repository import MODEL_NAME
from gateway.controlplane.statuses import Context
from gateway.controlplane.store import Token
from gateway.errors import Forbidden, InvalidRequest, NotFound, Refused
from protos import admin_pb2 as pb

MAX_MODELS: Final = 100
"""One token may have roles for."""


class Tokens:
    """Makes, lists and revokes tokens."""

    def __init__(self, keeper: Keeper, clock_ms: Callable[[], int]) -> None:
        """`clock_ms`: milliseconds since the epoch."""
        self._keeper = keeper
        self._clock_ms = clock_ms
        self._revoking = asyncio.Lock()

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        return await self.create(request, actor(context))

    async def create(self, request: pb.CreateTokenRequest, by: str) -> pb.CreateTokenResponse:
        """Makes a token, by whom the audit log is to name."""
        roles, lives_ms = _roles(request), _lives_ms(request)
        if not tokens.ID.fullmatch(request.token_id):
            raise InvalidRequest("token_id must be letters a-z, digits, '.' or '-', at most 63, and begin with no sign")
        check_texts("", request.reason, by)
        _check_owner(roles)
        if not (await self._keeper.tokens() or self._keeper.grants or roles.may(Role.OWNER, None)):
            raise Refused("the first token ends that everybody is owner: make it one of an owner of all models")
        now_ms, secret = self._clock_ms(), tokens.new_secret()
        expires_ms = now_ms + lives_ms if lives_ms else 0
        token = Token(request.token_id, tokens.hashed(secret), roles.written(), by, now_ms, expires_ms)
        if request.validate_only:
            return pb.CreateTokenResponse(token=token_message(token))
        await self._keeper.add(token, _event("create-token", token, request.reason, now_ms, by))
        return pb.CreateTokenResponse(token=token_message(token), secret=tokens.written(token.id, secret))

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        size = pages.page_size(request.page_size)
        after = request.page_token
        mine = [one for one in (await self._keeper.tokens()).values() if _caller().owns(tokens.roles_of(one))]
        found = sorted((one for one in mine if one.id > after), key=lambda one: one.id)
        more = found[size - 1].id if len(found) > size else ""
        return pb.ListTokensResponse(tokens=map(token_message, found[:size]), next_page_token=more)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.Token:
        token_id, by = names.id_of_token(request.name), actor(context)
        check_texts("", request.reason, by)
        async with self._revoking:
            return await self._revoke(request, token_id, by)

    async def _revoke(self, request: pb.RevokeTokenRequest, token_id: str, by: str) -> pb.Token:
        """One at a time: else two owners could end each other, and nobody were left."""
        token = (await self._keeper.tokens()).get(token_id)
        if token is None:
            raise NotFound(f"there is no token {token_id[:200]}")
        _check_owner(tokens.roles_of(token))
        if token.revoked_ms:
            return token_message(token)
        if tokens.roles_of(token).may(Role.OWNER, None) and not await self._others_own_all(token_id):
            raise Refused(
                f"{token_id} is the last owner of all models, nobody could make another token; make one first"
            )
        now_ms = self._clock_ms()
        revoked = msgspec.structs.replace(token, revoked_ms=now_ms)
        if not request.validate_only:
            await self._keeper.replace(revoked, _event("revoke-token", revoked, request.reason, now_ms, by))
        return token_message(revoked)

    async def _others_own_all(self, token_id: str) -> bool:
        """Whether somebody besides that token is owner of all models."""
        now_ms = self._clock_ms()
        valid = [one for one in (await self._keeper.tokens()).values() if tokens.invalid(one, now_ms) is None]
        others = [tokens.roles_of(one) for one in valid if one.id != token_id]
        return any(roles.may(Role.OWNER, None) for roles in [*others, *self._keeper.grants.values()])


def _caller() -> Roles:
    caller = calling()
    return OWNER_OF_ALL if caller is None else caller.roles


def _check_owner(roles: Roles) -> None:
    """Raises Forbidden: nobody gives, or takes, what is not theirs."""
    mine = _caller()
    if not mine.owns(roles):
        raise Forbidden(f"a token with {roles} needs an owner of all that; the caller has {mine}")


def _roles(request: pb.CreateTokenRequest) -> Roles:
    if not 0 < len(request.roles) <= MAX_MODELS:
        raise InvalidRequest(f'roles must be for 1 to {MAX_MODELS} models, or for "*"')
    found: dict[str, Role] = {}
    for model, number in request.roles.items():
        if model != ALL and not MODEL_NAME.fullmatch(model):
            raise InvalidRequest(f'roles: {model[:200]!r} is neither the name of a model nor "*"')
        if number not in tuple(map(int, Role)):
            raise InvalidRequest(f"roles: {model} needs VIEWER, OPERATOR or OWNER")
        found[model] = Role(number)
    return Roles(found)


def _lives_ms(request: pb.CreateTokenRequest) -> int:
    """0: for ever."""
    if not request.HasField("ttl"):
        return 0
    ttl: Duration = request.ttl
    found = ttl.seconds * 1000 + ttl.nanos // 1_000_000
    if not 0 < found <= tokens.LONGEST_MS:
        raise InvalidRequest("ttl must be more than nothing and at most ten years; leave it out for ever")
    return found


def _event(verb: str, token: Token, reason: str, now_ms: int, by: str) -> Draft:
    """What the token gives."""
    plain = msgspec.to_builtins(token)
    told = {key: plain[key] for key in TOLD_OF_TOKENS}
    (model,) = token.roles if len(token.roles) == 1 and ALL not in token.roles else ("",)
    after = msgspec.json.encode(told, order="sorted").decode()
    return Draft(now_ms, by, verb, model, 0, reason, "", "", after, ACCESS)
