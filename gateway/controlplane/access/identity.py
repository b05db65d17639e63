"""Who calls: by a token, else by a client certificate, else by the way in. Pure: `now_ms` is an argument."""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.controlplane.access import tokens
from gateway.controlplane.access.roles import NO_ROLES, OWNER_OF_ALL, Roles
from gateway.controlplane.store import Token
from gateway.errors import Unauthenticated
from gateway.transport.call import Peer

UNIX: Final = "unix:"
"""Whoever comes through the Unix socket, as grants name them; its file mode says who can."""
AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer "
_UNTRUE: Final = ("token:", "certificate:")
"""How names begin that the gateway vouches for."""


class Rights(msgspec.Struct, frozen=True):
    """What is known of who may do what. `open_port`: the port lets everybody in until there is a token or a grant."""

    tokens: Mapping[str, Token]
    grants: Mapping[str, Roles]
    open_port: bool

    @property
    def open(self) -> bool:
        """Whether nobody has been given anything yet. A token that was revoked or has expired keeps the door shut."""
        return not self.tokens and not self.grants


class Caller(msgspec.Struct, frozen=True):
    """Who calls. `name`: as the audit log has them, and how it is known, such as `token:ci`."""

    name: str
    roles: Roles

    def actor(self, claim: str) -> str:
        """The name with what the caller says it is."""
        return f"{self.name} ({claim})" if claim else self.name


class Guest(Caller, frozen=True):
    """Somebody at a door that is open: nothing vouches for the name."""

    def actor(self, claim: str) -> str:
        """What the caller says it is, else its address."""
        return f"unverified {claim}" if claim.startswith(_UNTRUE) else claim or self.name


def caller(authorization: str | None, peer: Peer, rights: Rights, now_ms: int) -> Caller:
    """Whoever it is that calls, maybe without any role. Raises Unauthenticated.

    `authorization`: the header of the call. A token that is shown decides alone, also where it gives less.
    """
    if authorization is not None:
        return _holder(authorization, rights, now_ms)
    if peer.identity:
        name = f"certificate:{peer.identity}"
        # A certificate may say anything, also the name under which the socket has its roles.
        granted = NO_ROLES if peer.identity == UNIX else rights.grants.get(peer.identity, NO_ROLES)
        return Caller(name, OWNER_OF_ALL if rights.open and rights.open_port else granted)
    if peer.address == UNIX and UNIX in rights.grants:
        return Caller(UNIX, rights.grants[UNIX])
    if rights.open and (rights.open_port or peer.address == UNIX):
        return Guest(peer.address, OWNER_OF_ALL)
    raise Unauthenticated("who calls is not known: send a token in the metadata, as authorization: Bearer TOKEN")


def address(peer: Peer) -> str:
    """The name of somebody who is nobody: the address without its port, which is another one each time."""
    return peer.address if peer.address == UNIX else peer.address.rpartition(":")[0] or "unknown"


def _holder(authorization: str, rights: Rights, now_ms: int) -> Caller:
    """The caller with a token. The texts never repeat what was sent: it may be a secret."""
    if authorization[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated("authorization must be: Bearer, a space, and a token")
    shown = tokens.read(authorization[len(_BEARER) :].strip())
    token = rights.tokens.get(shown.id) if shown else None
    if shown is None or token is None or not shown.fits(token):
        raise Unauthenticated("the token is not known here; ask an owner for one")
    if why := tokens.invalid(token, now_ms):
        raise Unauthenticated(f"token {token.id} {why}; ask an owner for another", f"token:{token.id}")
    return Caller(f"token:{token.id}", tokens.roles_of(token))
