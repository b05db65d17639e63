"""Bearer tokens: `cutover_<id>_<secret>`. The id is chosen by whoever makes it and stands in the audit log; the secret
is 256 random bits, told once, of which only the SHA-256 is kept. Pure, but for the dice.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.controlplane.access.roles import Role, Roles
from gateway.controlplane.store import Token

PREFIX: Final = "cutover"
"""So that scanners for secrets in code can know one."""
SECRET_BYTES: Final = 32
ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""No underscore, which ends it."""
LONGEST_MS: Final = 10 * 366 * 86_400_000
"""Ten years: more is a slip of the pen."""


class Bearer:
    """What a caller shows. Never write it anywhere; its `repr` shows the id only."""

    __slots__ = ("_secret", "id")

    def __init__(self, token_id: str, secret: str) -> None:
        self.id = token_id
        self._secret = secret

    def __repr__(self) -> str:
        return f"Bearer({self.id!r})"

    def fits(self, token: Token) -> bool:
        """Whether it has the token's secret; takes as long either way."""
        return hmac.compare_digest(hashed(self._secret), token.hash)


def read(text: str) -> Bearer | None:
    """What the text of a token says; None: it is none."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not ID.fullmatch(token_id) or not secret:
        return None
    return Bearer(token_id, secret)


def new_secret() -> str:
    """A secret nobody can guess."""
    return secrets.token_urlsafe(SECRET_BYTES)


def written(token_id: str, secret: str) -> str:
    """The token as its holder gets it."""
    return f"{PREFIX}_{token_id}_{secret}"


def hashed(secret: str) -> str:
    """What is kept of a secret. A fast hash is enough: nobody can try all of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def roles_of(token: Token) -> Roles:
    """The roles it gives. One that is not known (of a later version) gives nothing."""
    known = {role.word: role for role in Role}
    return Roles({model: known[word] for model, word in token.roles.items() if word in known})


def never_again(known: Mapping[str, Token], found: Mapping[str, Token], now_ms: int) -> dict[str, Token]:
    """The tokens found; but those have ended that are known to have, or are gone.

    So a store that was put back from an older copy gives nobody back what was taken.
    """
    ended = {
        token.id: msgspec.structs.replace(token, revoked_ms=token.revoked_ms or now_ms)
        for token in known.values()
        if token.id not in found or (found[token.id].hash == token.hash and token.revoked_ms)
    }
    return {**found, **ended}


def invalid(token: Token, now_ms: int) -> str | None:
    """Why it gives nothing any more; None: it does."""
    if token.revoked_ms:
        return "was revoked"
    if token.expires_ms and now_ms >= token.expires_ms:
        return "has expired"
    return None
