import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.access import tokens
from gateway.controlplane.access.roles import Role
from gateway.controlplane.store import Token


def token(*, secret: str = "s", **fields: int) -> Token:  # noqa: S107 - no secret of anybody
    return Token("ci", tokens.hashed(secret), {"iris": "operator", "*": "viewer"}, "ada", 1, **fields)


def test_a_token_that_was_written_is_read() -> None:
    secret = tokens.new_secret()
    shown = tokens.read(tokens.written("ci-deploy.2", secret))
    assert shown is not None
    assert shown.id == "ci-deploy.2"
    assert shown.fits(token(secret=secret))
    assert not shown.fits(token(secret=tokens.new_secret()))


def test_secrets_are_long_and_never_the_same() -> None:
    made = {tokens.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 43  # 256 bits, six to a letter


@pytest.mark.parametrize(
    "text", ["", "cutover", "cutover_ci", "cutover_ci_", "cutover__s", "other_ci_s", "cutover_CI_s", "s", "cutover_-_s"]
)
def test_what_is_no_token_is_not_read(text: str) -> None:
    assert tokens.read(text) is None


@given(st.text())
def test_anything_may_be_shown(text: str) -> None:
    shown = tokens.read(f"cutover_ci_{text}")
    assert shown is None or not shown.fits(token(secret="another" + text))


def test_a_secret_is_not_seen_by_printing() -> None:
    shown = tokens.read("cutover_ci_hush")
    assert "hush" not in repr(shown) + str(shown)


@pytest.mark.parametrize(
    ("fields", "now_ms", "why"),
    [
        ({}, 10**15, None),
        ({"expires_ms": 100}, 99, None),
        ({"expires_ms": 100}, 100, "has expired"),
        ({"revoked_ms": 50}, 60, "was revoked"),
        ({"revoked_ms": 50, "expires_ms": 100}, 200, "was revoked"),
        ({"revoked_ms": 50}, 40, "was revoked"),  # the clock was set back
    ],
)
def test_a_token_holds_until_it_ends(fields: dict[str, int], now_ms: int, why: str | None) -> None:
    held = msgspec.structs.replace(token(), **fields)
    assert tokens.invalid(held, now_ms) == why


def test_roles_that_nobody_knows_give_nothing() -> None:
    odd = Token("ci", "", {"iris": "operator", "wine": "emperor"}, "ada", 1)
    assert dict(tokens.roles_of(odd).by_model) == {"iris": Role.OPERATOR}


def test_what_has_ended_stays_ended_whatever_the_store_says() -> None:
    held, ended = token(), msgspec.structs.replace(token(), revoked_ms=50)
    other = msgspec.structs.replace(held, hash="another")
    assert tokens.never_again({}, {"ci": held}, 70) == {"ci": held}
    assert tokens.never_again({"ci": held}, {"ci": ended}, 70) == {"ci": ended}
    assert tokens.never_again({"ci": ended}, {"ci": held}, 70) == {"ci": ended}
    assert tokens.never_again({"ci": ended}, {}, 70) == {"ci": ended}
    assert tokens.never_again({"ci": held}, {}, 70) == {"ci": msgspec.structs.replace(held, revoked_ms=70)}
    assert tokens.never_again({"ci": ended}, {"ci": other}, 70) == {"ci": other}
