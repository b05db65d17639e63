import pytest

from gateway.transport.h2.errors import ConnectionFault, ErrorCode
from gateway.transport.h2.frames import (
    PADDED,
    PRIORITY,
    FrameType,
    expect_size,
    frame,
    goaway,
    rst_stream,
    unpadded,
    unprioritised,
    window_update,
)


def test_frame_layout() -> None:
    assert frame(FrameType.PING, 1, 0, b"12345678") == bytes.fromhex("000008060100000000") + b"12345678"
    assert frame(FrameType.DATA, 0, 2**31 - 1, b"x" * 70_000)[:9] == bytes.fromhex("011170" + "00" + "00" + "7fffffff")


def test_fixed_frames() -> None:
    assert rst_stream(5, ErrorCode.CANCEL) == bytes.fromhex("000004030000000005" + "00000008")
    assert window_update(0, 65_535) == bytes.fromhex("000004080000000000" + "0000ffff")
    assert (
        goaway(7, ErrorCode.NO_ERROR, "bye") == bytes.fromhex("00000b070000000000" + "00000007" + "00000000") + b"bye"
    )


def test_goaway_keeps_its_reason_short_and_ascii() -> None:
    assert goaway(0, ErrorCode.NO_ERROR, "é" * 1000)[17:] == b"?" * 256


def test_padding_is_taken_off() -> None:
    assert unpadded(0, b"abc", 0, 3) == (0, 3)
    assert unpadded(PADDED, b"\x02abc..", 0, 6) == (1, 4)
    assert unpadded(PADDED, b"\x00", 0, 1) == (1, 1)
    assert unpadded(PADDED, b"\x03abc", 0, 4) == (1, 1)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x04abc", ErrorCode.PROTOCOL_ERROR)]
)
def test_padding_that_does_not_fit(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        unpadded(PADDED, payload, 0, len(payload))
    assert caught.value.code == code


def test_priority_fields_are_skipped() -> None:
    assert unprioritised(0, 3, 9) == 3
    assert unprioritised(PRIORITY, 3, 9) == 8
    with pytest.raises(ConnectionFault) as caught:
        unprioritised(PRIORITY, 3, 7)
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR


def test_sizes_are_checked() -> None:
    expect_size(FrameType.PING, 8, 8)
    with pytest.raises(ConnectionFault, match="PING of 7 bytes, must be 8"):
        expect_size(FrameType.PING, 8, 7)
