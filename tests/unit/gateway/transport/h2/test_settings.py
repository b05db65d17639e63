import struct

import pytest

from gateway.transport.h2.errors import ConnectionFault, ErrorCode
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.settings import Setting, parse, server_preface
from tests.unit.gateway.transport.h2.peer import split


def entries(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">HL", *pair) for pair in pairs)


def test_the_server_announces_its_limits() -> None:
    first, second = split(
        server_preface(Limits(max_streams=7, stream_window_bytes=100_000, connection_window_bytes=200_000))
    )
    announced = dict(struct.iter_unpack(">HL", first.payload))
    assert announced[Setting.MAX_CONCURRENT_STREAMS] == 7
    assert announced[Setting.INITIAL_WINDOW_SIZE] == 100_000
    assert announced[Setting.MAX_HEADER_LIST_SIZE] == 16_384
    assert (second.stream_id, int.from_bytes(second.payload, "big")) == (0, 200_000 - 65_535)


def test_a_default_connection_window_needs_no_update() -> None:
    assert len(split(server_preface(Limits(connection_window_bytes=65_535)))) == 1


def test_order_and_repetition_are_kept_and_unknown_settings_left_out() -> None:
    assert parse(entries((4, 1), (0x99, 5), (4, 2), (0, 3))) == [(4, 1), (4, 2)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"12345", ErrorCode.FRAME_SIZE_ERROR),
        (entries((2, 2)), ErrorCode.PROTOCOL_ERROR),
        (entries((4, 2**31)), ErrorCode.FLOW_CONTROL_ERROR),
        (entries((5, 16_383)), ErrorCode.PROTOCOL_ERROR),
        (entries((5, 2**24)), ErrorCode.PROTOCOL_ERROR),
        (entries(*[(3, 1)] * 65), ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_invalid_values(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        parse(payload)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "pair", [(2, 0), (2, 1), (4, 0), (4, 2**31 - 1), (5, 16_384), (5, 2**24 - 1), (1, 0), (6, 2**32 - 1)]
)
def test_values_at_the_edge(pair: tuple[int, int]) -> None:
    assert parse(entries(pair)) == [pair]
