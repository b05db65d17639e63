"""Who calls, by what they show."""

import pytest

from gateway.controlplane.access import tokens
from gateway.controlplane.access.identity import UNIX, Caller, Guest, Rights, address, caller
from gateway.controlplane.access.roles import ALL, NO_ROLES, OWNER_OF_ALL, Role, Roles
from gateway.controlplane.store import Token
from gateway.errors import Unauthenticated
from gateway.transport.call import Peer

HERE = Peer("127.0.0.1:4711")
SOCKET = Peer("unix:")
OPS = Peer("192.0.2.1:4711", "spiffe://corp/ops", encrypted=True)
VIEWER = Roles({ALL: Role.VIEWER})
NOBODY_YET = Rights({}, {}, open_port=True)


def token(token_id: str, **fields: int) -> Token:
    return Token(token_id, tokens.hashed("secret"), {"iris": "operator"}, "ada", 1, **fields)


GIVEN = Rights(
    {one.id: one for one in (token("ci"), token("old", expires_ms=100), token("gone", revoked_ms=50))},
    {"spiffe://corp/ops": VIEWER, "unix:": OWNER_OF_ALL},
    open_port=True,
)


def bearer(token_id: str, secret: str = "secret") -> str:  # noqa: S107 - no secret of anybody
    return f"Bearer cutover_{token_id}_{secret}"


def test_a_token_says_who_calls_and_decides_alone() -> None:
    for peer in (HERE, SOCKET, OPS):
        found = caller(bearer("ci"), peer, GIVEN, 1_000)
        assert found == Caller("token:ci", Roles({"iris": Role.OPERATOR}))
    assert caller(bearer("ci").replace("Bearer", "bEARER"), HERE, GIVEN, 1_000).name == "token:ci"


@pytest.mark.parametrize(
    ("authorization", "said", "known_as"),
    [
        (bearer("ci", "guess"), "the token is not known here", ""),
        (bearer("nobody"), "the token is not known here", ""),
        ("Bearer secret", "the token is not known here", ""),
        ("Bearer ", "the token is not known here", ""),
        ("Basic YWRhOnNlY3JldA==", "authorization must be", ""),
        ("", "authorization must be", ""),
        (bearer("old"), "token old has expired", "token:old"),
        (bearer("gone"), "token gone was revoked", "token:gone"),
        (bearer("gone", "guess"), "the token is not known here", ""),
    ],
)
@pytest.mark.parametrize("peer", [HERE, SOCKET, OPS])
def test_a_token_that_is_not_good_is_refused_whoever_shows_it(
    authorization: str, said: str, known_as: str, peer: Peer
) -> None:
    with pytest.raises(Unauthenticated, match=said) as caught:
        caller(authorization, peer, GIVEN, 1_000)
    assert caught.value.caller == known_as
    assert "secret" not in str(caught.value)
    assert "guess" not in str(caught.value)


def test_a_certificate_has_what_it_is_granted() -> None:
    assert caller(None, OPS, GIVEN, 1) == Caller("certificate:spiffe://corp/ops", VIEWER)
    stranger = Peer("192.0.2.1:4711", "spiffe://corp/intern", encrypted=True)
    assert caller(None, stranger, GIVEN, 1) == Caller("certificate:spiffe://corp/intern", NO_ROLES)


def test_the_socket_has_what_it_is_granted() -> None:
    assert caller(None, SOCKET, GIVEN, 1) == Caller("unix:", OWNER_OF_ALL)
    with pytest.raises(Unauthenticated):
        caller(None, HERE, GIVEN, 1)


def test_a_door_is_open_until_somebody_is_given_something() -> None:
    assert caller(None, HERE, NOBODY_YET, 1) == Guest("127.0.0.1:4711", OWNER_OF_ALL)
    assert caller(None, SOCKET, NOBODY_YET, 1) == Guest("unix:", OWNER_OF_ALL)
    for shut in (
        Rights({"gone": token("gone", revoked_ms=1)}, {}, open_port=True),
        Rights({"old": token("old", expires_ms=1)}, {}, open_port=True),
        Rights({}, {"spiffe://corp/ops": VIEWER}, open_port=True),
    ):
        for peer in (HERE, SOCKET):
            with pytest.raises(Unauthenticated, match="send a token"):
                caller(None, peer, shut, 1_000)


def test_a_port_for_other_machines_is_never_open() -> None:
    rights = Rights({}, {}, open_port=False)
    for peer in (HERE, Peer("192.0.2.1:1")):
        with pytest.raises(Unauthenticated):
            caller(None, peer, rights, 1)
    assert caller(None, OPS, rights, 1).roles == NO_ROLES
    assert caller(None, SOCKET, rights, 1).roles == OWNER_OF_ALL


def test_the_log_names_who_it_is_before_who_they_say_they_are() -> None:
    known = Caller("token:ci", NO_ROLES)
    assert (known.actor("ada@vm"), known.actor("")) == ("token:ci (ada@vm)", "token:ci")
    guest = Guest("127.0.0.1:1", OWNER_OF_ALL)
    assert (guest.actor("ada@vm"), guest.actor("")) == ("ada@vm", "127.0.0.1:1")
    assert guest.actor("token:ci") == "unverified token:ci"


def test_nobody_is_known_by_the_port_they_come_from() -> None:
    assert [address(peer) for peer in (HERE, SOCKET, Peer("[2001:db8::1]:7"), Peer())] == [
        "127.0.0.1",
        "unix:",
        "[2001:db8::1]",
        "unknown",
    ]


def test_a_certificate_named_like_the_socket_has_nothing_of_it() -> None:
    found = caller(None, Peer("192.0.2.1:4711", UNIX, encrypted=True), GIVEN, 1_000)
    assert found == Caller("certificate:unix:", NO_ROLES)
