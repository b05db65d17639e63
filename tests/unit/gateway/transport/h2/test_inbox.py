import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.compression import compress
from gateway.transport.h2.errors import Refusal, StreamFault
from gateway.transport.h2.inbox import Inbox
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import message

LIMITS = Limits(max_message_bytes=1000)
GZIP = Metadata("/", {"grpc-encoding": "gzip"}, None, None)


def inbox(content_length: int | None = None) -> Inbox:
    return Inbox(1, GZIP, content_length, 65_536)


def taken(target: Inbox) -> list[bytes]:
    """All messages that have come."""
    found = []
    while target.has_message:
        found.append(target.take(LIMITS))
        target.look(LIMITS)
    target.tidy()
    return found


@given(st.lists(st.binary(max_size=30), max_size=6), st.lists(st.integers(0, 20), min_size=1, max_size=10))
def test_messages_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    target, rest, turn = inbox(), b"".join(map(message, bodies)), 0
    while rest:
        size = cuts[turn % len(cuts)] or (turn // len(cuts))
        target.feed(memoryview(rest[:size]), LIMITS)
        rest, turn = rest[size:], turn + 1
    assert taken(target) == bodies
    assert not target.begun
    target.check_end()


def test_what_is_missing_is_known_as_soon_as_the_prefix_is() -> None:
    target = inbox()
    target.feed(memoryview(b"\0\0"), LIMITS)
    assert (target.begun, target.missing_bytes) == (True, 3)
    target.feed(memoryview(b"\0\0\x0aabc"), LIMITS)
    assert target.missing_bytes == 7
    target.feed(memoryview(b"0123456" + message(b"next")[:6]), LIMITS)
    assert (target.has_message, target.missing_bytes) == (True, 0)
    assert taken(target) == [b"abc0123456"]
    assert (target.has_message, target.begun_bytes, target.missing_bytes) == (False, 6, 3)


def test_a_message_is_unpacked_when_it_is_taken() -> None:
    target = inbox()
    packed = message(compress("gzip", bytes(2000)), 1)
    target.feed(memoryview(packed), LIMITS)
    with pytest.raises(Refusal) as caught:
        target.take(LIMITS)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    target.feed(memoryview(message(compress("gzip", bytes(500)), 1)), LIMITS)
    assert target.take(LIMITS) == bytes(500)


def test_too_large_a_message_is_refused_by_its_prefix() -> None:
    with pytest.raises(Refusal) as caught:
        inbox().feed(memoryview(b"\0\0\0\x03\xe9"), LIMITS)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_the_end_comes_between_messages() -> None:
    target = inbox()
    target.feed(memoryview(message(b"abc") + message(b"abc")[:-1]), LIMITS)
    assert taken(target) == [b"abc"]
    with pytest.raises(Refusal) as caught:
        target.check_end()
    assert caught.value.code == Code.INTERNAL


def test_content_length_must_be_right() -> None:
    with pytest.raises(StreamFault):
        inbox(1).check_length()


def test_the_window_opens_at_half_and_large_messages_need_a_grant() -> None:
    target = inbox()
    assert (target.low_bytes(65_536), target.needs_grant(65_536)) == (32_768, False)
    target.feed(memoryview(b"\0" + (500_000).to_bytes(4, "big")), Limits())
    assert (target.low_bytes(65_536), target.needs_grant(65_536)) == (500_256, True)


def test_nobody_wants_it_any_more() -> None:
    target = inbox()
    target.feed(memoryview(message(b"abc") + b"\0"), LIMITS)
    target.close()
    assert (target.begun, target.has_message) == (False, False)


def test_a_broken_message_is_met_when_its_turn_comes() -> None:
    target = inbox()
    target.feed(memoryview(message(b"good") + message(b"bad", 2) + message(b"good")), LIMITS)
    assert target.take(LIMITS) == b"good"
    with pytest.raises(Refusal) as caught:
        target.look(LIMITS)
    assert caught.value.code == Code.INTERNAL


def test_what_waits_costs_its_bytes() -> None:
    target = inbox()
    empty = target.buffered_bytes
    target.feed(memoryview(message(b"") * 1000), LIMITS)
    assert target.buffered_bytes == empty + 5000
    assert len(taken(target)) == 1000
    assert target.buffered_bytes == empty
