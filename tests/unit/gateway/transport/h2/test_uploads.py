import tracemalloc

import pytest

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Refusal, StreamFault
from gateway.transport.h2.frames import PADDED, FrameType, frame
from gateway.transport.h2.grpc import PREFIX_BYTES
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.streams import SMALL_BYTES
from gateway.transport.h2.uploads import GROWTH, SPARE_BYTES, Intake, Upload
from tests.unit.gateway.transport.h2.peer import Frame, Peer, data, message, only, reset, split

METADATA = Metadata("/", {}, None, None)
LIMITS = Limits(max_message_bytes=1000)
KIB = 1024


def upload(content_length: int | None = None) -> Upload:
    return Upload(1, METADATA, content_length, 65_536, 0.0)


def feed(target: Upload, *pieces: bytes) -> Upload:
    for piece in pieces:
        target.feed(memoryview(piece), LIMITS)
    return target


def test_a_message_in_pieces() -> None:
    target = feed(upload(), b"\x00\x00", b"\x00\x00\x03a", b"", b"bc")
    assert target.missing_bytes == 0
    assert target.finish(LIMITS) == b"abc"


def begun(size: int, window_bytes: int) -> Upload:
    """The beginning of a message of so many bytes has come: there is room for two thirds."""
    target = Upload(1, METADATA, None, window_bytes, 0.0)
    target.feed(memoryview(message(bytes(size))[: PREFIX_BYTES + 2 * size // 3 // GROWTH]), Limits())
    target.window_bytes = window_bytes
    return target


def test_the_middle_of_a_message_goes_on_until_its_room_is_full() -> None:
    target = begun(3000, 65_536)
    start = target.received_bytes
    assert target.goes_on(memoryview(b"a" * 1700))
    assert (target.received_bytes, target.window_bytes) == (start + 1700, 65_536 - 1700)
    assert not target.goes_on(memoryview(b"a" * 200))
    assert (target.received_bytes, target.window_bytes) == (start + 1700, 65_536 - 1700)
    target.feed(memoryview(b"b" * target.missing_bytes), Limits())
    assert target.finish(Limits()) == bytes(start - PREFIX_BYTES) + b"a" * 1700 + b"b" * (1305 - start)


@pytest.mark.parametrize(
    ("size", "spare_bytes"),
    [
        pytest.param(SMALL_BYTES - 1, 60_000, id="tiny frames are counted"),
        pytest.param(900, SPARE_BYTES - 1, id="the window is to be opened again"),
        pytest.param(900, -2000, id="the window is overrun"),
    ],
)
def test_what_the_rules_have_a_say_in_does_not_just_go_on(size: int, spare_bytes: int) -> None:
    start = begun(3000, 0).received_bytes
    window_bytes = 3005 - start + spare_bytes
    target = begun(3000, window_bytes)
    assert not target.goes_on(memoryview(bytes(size)))
    assert (target.received_bytes, target.window_bytes) == (start, window_bytes)


def test_a_message_of_which_nothing_has_come_does_not_just_go_on() -> None:
    assert not upload().goes_on(memoryview(bytes(500)))


def test_an_empty_message_is_a_message() -> None:
    assert feed(upload(), message(b"")).finish(LIMITS) == b""


@pytest.mark.parametrize(
    ("body", "code"), [(b"", Code.UNIMPLEMENTED), (b"\x00\x00", Code.INTERNAL), (message(b"abc")[:-1], Code.INTERNAL)]
)
def test_half_a_message_is_none(body: bytes, code: Code) -> None:
    with pytest.raises(Refusal) as caught:
        feed(upload(), body).finish(LIMITS)
    assert caught.value.code == code


def test_two_messages_are_too_many() -> None:
    with pytest.raises(Refusal) as caught:
        feed(upload(), message(b"abc"), b"\x00")
    assert caught.value.code == Code.UNIMPLEMENTED


def test_content_length_must_be_right() -> None:
    assert feed(upload(8), message(b"abc")).finish(LIMITS) == b"abc"
    with pytest.raises(StreamFault) as caught:
        feed(upload(9), message(b"abc")).finish(LIMITS)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_the_connection_window_opens_again_at_half() -> None:
    sender = Sender({}, lambda: None)
    target = Intake(Limits(connection_window_bytes=100_000), sender)
    target.take(49_999)
    assert not sender.out
    target.take(1)
    (update,) = split(b"".join(sender.out))
    assert (update.kind, update.stream_id, int.from_bytes(update.payload, "big")) == (
        FrameType.WINDOW_UPDATE,
        0,
        50_000,
    )
    with pytest.raises(ConnectionFault) as caught:
        target.take(100_001)
    assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


def test_a_stream_beyond_its_window_is_reset() -> None:
    peer = Peer(Limits(stream_window_bytes=65_535))
    head = message(b"x" * 100_000)
    # The first frame asks for more window than there is; its grant is on the way, but the peer does not wait for it.
    peer.connection._requests.intake._granted_bytes = 10**9
    frames = peer.send(peer.headers(1), *[data(1, head[:16_000], end=False)] * 5)
    assert only(frames, FrameType.RST_STREAM).code == ErrorCode.FLOW_CONTROL_ERROR
    assert peer.works(3)


def grants(frames: list[Frame]) -> dict[int, int]:
    return {
        item.stream_id: int.from_bytes(item.payload, "big") for item in frames if item.kind == FrameType.WINDOW_UPDATE
    }


def test_a_message_above_the_window_gets_all_it_needs_at_once() -> None:
    peer = Peer()
    size = 1_000_000
    (update,) = grants(peer.send(peer.headers(1), data(1, message(b"x" * size)[: 16 * KIB], end=False))).items()
    assert update[0] == 1
    assert 65_536 + update[1] >= size + 5
    pieces = message(b"x" * size)[16 * KIB :]
    frames = []
    for start in range(0, len(pieces), 16 * KIB):
        frames += peer.send(data(1, pieces[start : start + 16 * KIB], end=start + 16 * KIB >= len(pieces)))
    assert 1 not in grants(frames)
    body, pairs = peer.answers(frames)[1]
    assert pairs == {":status": "200", "content-type": "application/grpc"}, "the rest waits for our window"
    assert len(body) == 65_535


def test_large_messages_wait_for_each_other() -> None:
    peer = Peer(Limits(max_upload_bytes=1_000_000))
    head = message(b"x" * 600_000)[: 16 * KIB]
    assert set(grants(peer.send(peer.headers(1), data(1, head, end=False)))) == {1}
    assert not grants(peer.send(peer.headers(3), data(3, head, end=False), data(3, b"x" * KIB, end=False)))
    assert not grants(peer.send(peer.headers(5), data(5, head, end=False)))
    assert peer.works(7), "small ones do not wait"
    assert not grants(peer.send(reset(3))), "the one that waits left"
    assert set(grants(peer.send(reset(1)))) == {5}


def test_uploads_that_left_do_not_stand_in_line() -> None:
    """However many come and go while the first in the line waits for a share that is not given back."""
    peer = Peer(Limits(max_upload_bytes=1_000_000))
    head = message(b"x" * 600_000)[: 60 * KIB]
    for stream_id in range(1, 2001, 2):
        sent = peer.headers(stream_id), data(stream_id, head, end=False)
        peer.send(*sent, data(stream_id, b"") if stream_id > 3 else b"")
    line = peer.connection._requests.intake._waiting
    assert [each.stream_id for each in line] == [3]
    assert set(grants(peer.send(reset(1)))) == {3}
    assert not line


def test_one_message_above_the_budget_is_granted_alone() -> None:
    peer = Peer(Limits(max_upload_bytes=1000))
    assert set(grants(peer.send(peer.headers(1), data(1, message(b"x" * 600_000)[:1000], end=False)))) == {1}


def test_padding_does_not_starve_a_stream() -> None:
    peer = Peer(Limits(stream_window_bytes=65_535))
    peer.send(peer.headers(1))
    window = 65_535
    whole = message(b"y" * 400)
    for index, octet in enumerate(whole):
        payload = b"\xff" + bytes([octet]) + bytes(255)
        window -= len(payload)
        assert window >= 0
        flags = PADDED | (1 if index == len(whole) - 1 else 0)
        frames = peer.send(frame(FrameType.DATA, flags, 1, payload))
        window += grants(frames).get(1, 0)
    assert peer.answers(frames)[1][0] == whole


def test_a_large_message_is_copied_once() -> None:
    pieces = [bytes(50_000) for _ in range(100)]
    target, limits = upload(), Limits()
    target.feed(memoryview(b"\0" + (5_000_000).to_bytes(4, "big")), limits)
    tracemalloc.start()
    try:
        for piece in pieces:
            target.feed(memoryview(piece), limits)
        whole = target.finish(limits)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(whole) == 5_000_000
    assert peak_bytes < 1.3 * len(whole)


def test_what_is_counted_is_what_a_message_takes_up() -> None:
    piece, target, limits = bytes(50_000), upload(), Limits()
    target.feed(memoryview(b"\0" + (5_000_000).to_bytes(4, "big")), limits)
    taken_bytes = []
    for _ in range(100):
        target.feed(memoryview(piece), limits)
        taken_bytes.append(target.buffered_bytes - PREFIX_BYTES)
        assert target._body.getbuffer().nbytes == taken_bytes[-1]
    assert taken_bytes[0] <= GROWTH * len(piece), "a length that lies costs little"
    assert taken_bytes[-1] == 5_000_000
