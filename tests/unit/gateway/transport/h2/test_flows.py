"""Streaming calls as bytes in, bytes out."""

from functools import partial

import pytest

from gateway.errors import Code
from gateway.transport.call import Stream, Trailers
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.flows import TURN_MESSAGES
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, FrameType
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import Peer, data, kinds, message, only, reset, settings, window_update

CHAT = (":path", "/test.Echo/Chat")
LISTEN = (":path", "/test.Echo/Listen")


def listen(peer: Peer, stream_id: int = 1, *more: tuple[str, str]) -> Stream:
    peer.send(peer.headers(stream_id, LISTEN, *more))
    return peer.service.streams[-1]


def test_a_conversation() -> None:
    peer = Peer()
    assert peer.send(peer.headers(1, CHAT)) == []
    assert kinds(peer.send(data(1, message(b"one"), end=False))) == ["HEADERS", "DATA"]
    (echo,) = peer.send(data(1, message(b"two"), end=False))
    assert echo.payload == message(b"two")
    (end,) = peer.send(data(1, b""))
    assert (end.kind, end.flags) == (FrameType.HEADERS, END_HEADERS | END_STREAM)
    assert peer.connection.idle
    assert peer.works(3)


def test_an_empty_stream_has_headers_and_trailers() -> None:
    peer = Peer()
    frames = peer.send(peer.headers(1, CHAT, flags=END_HEADERS | END_STREAM))
    assert kinds(frames) == ["HEADERS", "HEADERS"]
    assert peer.answers(frames)[1][1]["grpc-status"] == "0"


def test_several_messages_in_one_frame_and_one_in_several() -> None:
    peer = Peer()
    listen(peer)
    peer.send(data(1, message(b"a") + message(b"b") + message(b"cd")[:3], end=False), data(1, message(b"cd")[3:]))
    assert peer.service.heard == [b"a", b"b", b"cd", "end"]


def test_request_trailers_end_a_stream() -> None:
    peer = Peer()
    listen(peer)
    peer.send(data(1, message(b"a"), end=False), peer.trailers(1, ("x-a", "b")))
    assert peer.service.heard == [b"a", "end"]


def test_request_trailers_above_the_limit_end_a_stream_that_has_answered() -> None:
    peer = Peer()
    for frame in peer.send(peer.headers(1, CHAT), data(1, message(b"a"), end=False)):
        if frame.kind == FrameType.HEADERS:
            peer.fields(frame)
    (end,) = peer.send(peer.trailers(1, ("x-a", "b" * 20_000)))
    assert (end.kind, end.flags) == (FrameType.HEADERS, END_HEADERS | END_STREAM)
    fields = peer.fields(end)
    assert fields["grpc-status"] == "8"
    assert ":status" not in fields, "trailers have no pseudo-headers"
    assert peer.connection._counters.take() == {"headers": 1}
    assert peer.works(3)


def test_data_after_the_end_resets_the_stream_and_cancels() -> None:
    peer = Peer()
    listen(peer)
    peer.send(data(1, b""))
    assert kinds(peer.send(data(1, message(b"more")))) == ["RST_STREAM"]
    assert peer.service.heard == ["end", "cancel"]


def test_headers_after_the_end_reset_the_stream_whatever_they_say() -> None:
    """RFC 9113 section 5.1: STREAM_CLOSED, also for what would be wrong before the end."""
    peer = Peer()
    listen(peer)
    peer.send(data(1, b""))
    (reset_frame,) = peer.send(peer.trailers(1, ("X-Upper", "x"), flags=END_HEADERS))
    assert (reset_frame.kind, reset_frame.code) == (FrameType.RST_STREAM, ErrorCode.STREAM_CLOSED)
    assert peer.service.heard == ["end", "cancel"]


def test_a_broken_message_in_the_last_frame_is_answered_and_not_reset() -> None:
    """Both ends are closed then: nothing may follow (RFC 9113 section 5.1)."""
    peer = Peer()
    listen(peer)
    frames = peer.send(data(1, message(b"not announced", 1)))
    assert kinds(frames) == ["HEADERS"]
    assert peer.connection.idle


def test_headers_trailers_and_a_failure_after_messages() -> None:
    peer = Peer()
    stream = listen(peer)
    stream.send_headers(Trailers(("x-head", "1")))
    stream.send(b"hello")
    stream.fail(Code.ABORTED, "enough", Trailers(("x-tail-bin", b"\x01")))
    frames = peer.frames()
    assert kinds(frames) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]
    assert peer.fields(frames[0])["x-head"] == "1"
    assert peer.fields(frames[2]) == {"grpc-status": "10", "grpc-message": "enough", "x-tail-bin": "AQ"}
    assert frames[3].code == 0, "the rest of the request is not wanted"
    assert stream.closed
    assert peer.send(data(1, message(b"late"))) == [], "it may have been on its way"


def test_a_failure_without_messages_is_trailers_only() -> None:
    peer = Peer()
    stream = listen(peer)
    peer.send(data(1, b""))
    stream.fail(Code.NOT_FOUND, "no")
    (end,) = peer.frames()
    assert peer.fields(end)[":status"] == "200"
    assert end.flags == END_HEADERS | END_STREAM


def test_nothing_is_sent_after_the_end() -> None:
    peer = Peer()
    stream = listen(peer)
    peer.send(data(1, b""))
    stream.finish()
    assert kinds(peer.frames()) == ["HEADERS", "HEADERS"]
    assert stream.send(b"more")
    stream.finish()
    stream.fail(Code.INTERNAL, "x")
    assert peer.frames() == []


def test_a_caller_who_leaves_cancels() -> None:
    peer = Peer()
    stream = listen(peer)
    peer.send(reset(1))
    assert (peer.service.heard, stream.closed) == (["cancel"], True)
    stream.send(b"nobody")
    assert peer.frames() == []


def test_a_lost_connection_cancels() -> None:
    peer = Peer()
    listen(peer)
    peer.connection.lost()
    assert peer.service.heard == ["cancel"]


@pytest.mark.parametrize("act", ["finish", "fail", "send", "resume"])
def test_who_hears_that_one_caller_is_lost_may_turn_to_another(act: str, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    first, second = listen(peer), listen(peer, 3)
    second.pause()
    arguments: dict[str, tuple[object, ...]] = {"fail": (Code.ABORTED, ""), "send": (bytes(200_000),)}
    first.on_cancel = lambda: getattr(second, act)(*arguments.get(act, ()))
    peer.connection.lost()
    sender = peer.connection.sender
    assert (first.closed, second.closed, sender.account.held_bytes, sender.backlog_bytes) == (True, True, 0, 0)
    assert not caplog.records


def test_a_stream_whose_work_goes_on_keeps_its_place() -> None:
    peer = Peer(Limits(max_streams=1))
    stream = listen(peer)
    stream.on_cancel = None
    peer.send(reset(1))
    assert only(peer.send(peer.request(3)), FrameType.RST_STREAM).code == 7
    stream.finish()
    assert peer.works(5)


def test_a_stream_whose_service_says_so_keeps_its_place() -> None:
    peer = Peer(Limits(max_streams=1))
    stream = listen(peer)
    stream.on_cancel = lambda: True
    peer.send(reset(1))
    assert only(peer.send(peer.request(3)), FrameType.RST_STREAM).code == 7
    stream.fail(Code.CANCELLED, "")
    assert peer.works(5)


def test_streams_count_against_concurrency() -> None:
    peer = Peer(Limits(max_streams=1))
    stream = listen(peer)
    assert only(peer.send(peer.request(3)), FrameType.RST_STREAM).code == 7
    stream.fail(Code.ABORTED, "")
    peer.frames()
    assert peer.works(5)


@pytest.mark.parametrize("where", ["start", "on_message", "on_end"])
def test_a_service_that_raises(where: str, caplog: pytest.LogCaptureFixture) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("as ordered")

    peer = Peer()
    if where == "start":
        peer.service.streams = None  # type: ignore[assignment] # appending to it raises
        frames = peer.send(peer.headers(1, LISTEN))
    else:
        setattr(listen(peer), where, crash)
        frames = peer.send(data(1, message(b"x")))
    assert peer.answers(frames)[1][1]["grpc-status"] == "13"
    assert "handler of /test.Echo/Listen failed" in caplog.text
    assert peer.works(3)


def test_a_paused_stream_bounds_what_the_peer_may_send() -> None:
    peer = Peer()
    stream = listen(peer)
    stream.pause()
    sent, frames = 0, []
    while sent < 65_536:
        piece = message(bytes(1019))
        frames += peer.send(data(1, piece, end=False))
        sent += len(piece)
    assert (frames, peer.service.heard) == ([], [])
    assert only(peer.send(data(1, b"x", end=False)), FrameType.RST_STREAM).code == 3


def test_a_resumed_stream_hears_what_waited_and_opens_its_window() -> None:
    peer = Peer()
    stream = listen(peer)
    stream.pause()
    peer.send(*[data(1, message(bytes(10_000)), end=False)] * 4, data(1, message(b"last")))
    stream.resume()
    assert peer.service.heard == [], "not from within"
    assert peer.woken
    assert peer.frames() == []
    assert [len(each) for each in peer.service.heard] == [10_000] * 4 + [4, 3]


def test_a_service_may_pause_between_messages() -> None:
    peer = Peer()
    stream = listen(peer)
    heard = []

    def one(body: bytes) -> None:
        heard.append(body)
        stream.pause()

    stream.on_message = one
    peer.send(data(1, message(b"a") + message(b"b"), end=False))
    assert heard == [b"a"]
    stream.resume()
    peer.frames()
    assert heard == [b"a", b"b"]


def test_the_window_opens_while_messages_are_taken() -> None:
    peer = Peer()
    listen(peer)
    window = 65_536
    for _ in range(100):
        piece = message(bytes(9_995))
        window -= len(piece)
        assert window >= 0
        for frame in peer.send(data(1, piece, end=False)):
            if frame.kind == FrameType.WINDOW_UPDATE and frame.stream_id == 1:
                window += int.from_bytes(frame.payload, "big")
    assert len(peer.service.heard) == 100


def test_a_message_above_the_window_is_granted_and_its_share_given_back() -> None:
    peer = Peer(Limits(max_upload_bytes=600_000))
    listen(peer)
    piece = message(bytes(500_000))
    frames = peer.send(data(1, piece[:60_000], end=False))
    assert int.from_bytes(only(frames, FrameType.WINDOW_UPDATE).payload, "big") >= 440_000
    for start in range(60_000, len(piece), 60_000):
        peer.send(data(1, piece[start : start + 60_000], end=False))
    assert len(peer.service.heard) == 1
    assert peer.connection._requests.intake._granted_bytes == 0


def test_small_messages_do_not_open_the_window_one_by_one() -> None:
    peer = Peer()
    listen(peer)
    frames = [frame for _ in range(1000) for frame in peer.send(data(1, message(bytes(195)), end=False))]
    updates = [frame for frame in frames if frame.stream_id == 1]
    assert kinds(updates) == ["WINDOW_UPDATE"] * 6, "200,000 bytes, by half a window at a time"


def test_the_share_of_a_stream_that_has_failed_goes_to_others_at_once() -> None:
    peer = Peer(Limits(max_upload_bytes=100_000), first=settings(initial_window_size=0))
    first = listen(peer)
    peer.send(data(1, message(bytes(200_000))[:60_000], end=False))
    assert peer.send(peer.headers(3), data(3, message(bytes(200_000))[:60_000], end=False)) == [], "the share is taken"
    first.send(b"nobody opens a window for this")
    first.fail(Code.ABORTED, "")
    assert only(peer.frames(), FrameType.WINDOW_UPDATE).stream_id == 3


def test_a_peer_that_does_not_read_is_told_of() -> None:
    peer = Peer(first=settings(initial_window_size=10))
    stream = listen(peer)
    relieved: list[int] = []
    stream.on_writable = lambda: relieved.append(1)
    assert stream.send(bytes(30_000))
    assert not stream.send(bytes(50_000))
    assert len(b"".join(frame.payload for frame in peer.frames() if frame.kind == FrameType.DATA)) == 10
    peer.send(window_update(1, 20_000))
    assert not relieved
    peer.send(window_update(1, 50_000))
    assert relieved == [1]


def test_who_was_told_to_wait_is_not_told_to_go_on_until_it_hears_so() -> None:
    peer = Peer(first=settings(initial_window_size=0))
    stream = listen(peer)
    writable: list[bool] = []
    stream.on_writable = lambda: writable.append(True)
    assert [stream.send(bytes(30_000)) for _ in range(3)] == [True, True, False]
    peer.send(window_update(1, 35_000))
    assert not stream.send(b"less waits than at first, but still much")
    peer.send(window_update(1, 100_000), window_update(0, 100_000))
    assert writable == [True]
    assert stream.send(b"more")


def test_who_sends_on_regardless_is_failed_at_the_bound() -> None:
    peer = Peer(Limits(max_backlog_bytes=100_000), first=settings(initial_window_size=0))
    stream = listen(peer)
    while not stream.closed:
        stream.send(bytes(20_000))
    assert peer.service.heard == ["cancel"]
    end = peer.frames()[-2]
    assert peer.fields(end)["grpc-status"] == "8"
    assert peer.connection.sender.backlog_bytes == 0
    assert peer.connection._counters.take() == {"backlog": 1}


def test_messages_cross_small_windows_in_order() -> None:
    peer = Peer(first=settings(initial_window_size=3))
    stream = listen(peer)
    peer.send(data(1, b""))
    for body in (b"first", b"", b"second"):
        stream.send(body)
    stream.finish()
    frames = peer.frames()
    while frames[-1].flags & END_STREAM == 0:
        frames += peer.send(window_update(1, 3))
    body = b"".join(frame.payload for frame in frames if frame.kind == FrameType.DATA)
    assert body == message(b"first") + message(b"") + message(b"second")
    assert peer.connection.idle


def test_a_reset_drops_what_waits() -> None:
    peer = Peer(first=settings(initial_window_size=0))
    stream = listen(peer)
    stream.send(bytes(1000))
    peer.send(reset(1))
    assert (peer.connection.sender.backlog_bytes, peer.connection.idle) == (0, True)


def test_compressed_messages_both_ways() -> None:
    peer = Peer()
    stream = listen(peer, 1, ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"))
    stream.send(b"x" * 1000, compress=True)
    stream.send(b"plain")
    head, packed, plain = peer.frames()
    assert peer.fields(head)["grpc-encoding"] == "gzip"
    assert (packed.payload[0], len(packed.payload) < 100) == (1, True)
    assert plain.payload == message(b"plain")
    peer.send(data(1, message(packed.payload[5:], 1)))
    assert peer.service.heard == [b"x" * 1000, "end"]


def test_a_peer_that_takes_no_compression_gets_none() -> None:
    peer = Peer()
    listen(peer).send(b"x" * 1000, compress=True)
    _, plain = peer.frames()
    assert plain.payload == message(b"x" * 1000)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\x01\0\0\0\x01x", 13), (b"\0\xff\xff\xff\xff", 8), (b"\x02\0\0\0\x01x", 13)],
)
def test_messages_that_cannot_be_taken_end_the_stream(body: bytes, code: int) -> None:
    peer = Peer(Limits(max_message_bytes=1000))
    listen(peer)
    frames = peer.send(data(1, body, end=False))
    assert peer.answers(frames[:1])[1][1]["grpc-status"] == str(code)
    assert (only(frames, FrameType.RST_STREAM).code, peer.service.heard) == (0, ["cancel"])
    assert peer.works(3)


def test_a_cut_off_message_ends_the_stream() -> None:
    peer = Peer()
    listen(peer)
    (end,) = peer.send(data(1, message(b"abc")[:-1]))
    assert peer.fields(end)["grpc-status"] == "13"


def test_messages_are_handed_over_in_slices() -> None:
    """A window full of tiny messages must not make everybody else wait."""
    peer = Peer()
    first, second = listen(peer), listen(peer, 3)
    heard: list[str] = []
    first.on_message = lambda _: heard.append("first")
    second.on_message = lambda _: heard.append("second")
    tiny = message(b"") * 100
    woken = peer.woken
    peer.connection.receive(data(1, tiny, end=False) + data(3, tiny, end=False), 1.0)
    assert (heard, peer.woken) == (["first"] * TURN_MESSAGES, woken + 1), "the rest waits for another turn"
    peer.connection.output()
    assert heard.count("second") < 100
    peer.frames()
    assert (heard.count("first"), heard.count("second")) == (100, 100)
    assert heard[-1] == "second"


def test_messages_in_frames_of_their_own_wait_in_line_once() -> None:
    """Else each frame would be one more look at its stream in every turn: a window full of them took minutes."""
    peer = Peer()
    heard: list[int] = []

    def note(place: int, _: bytes) -> None:
        heard.append(place)

    for place in range(3):
        listen(peer, 2 * place + 1).on_message = partial(note, place)
    frames = [data(stream_id, message(b""), end=False) * 2 * TURN_MESSAGES for stream_id in (1, 3, 5)]
    peer.connection.receive(b"".join(frames), 1.0)
    assert len(peer.connection._flows.stirred) == 3
    woken = peer.woken
    for _ in range(5):
        peer.connection.output()
    assert peer.woken == woken + 4, "the last turn leaves nothing for another"
    turns = [set(heard[at : at + TURN_MESSAGES]) for at in range(0, len(heard), TURN_MESSAGES)]
    assert turns == [{0}, {0}, {1}, {2}, {1}, {2}], "whom a turn did not reach is first in the next"


def test_dribble_on_a_stream_that_is_paused_is_chatter() -> None:
    peer = Peer(Limits(chatter_burst=20))
    listen(peer).pause()
    peer.send(*[data(1, message(b"no chatter"), end=False)] * 100)
    assert not peer.connection.finished
    assert only(peer.send(*[data(1, b"\0", end=False)] * 100), FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM


def test_thousands_of_small_messages_are_no_chatter_but_empty_frames_are() -> None:
    peer = Peer()
    listen(peer)
    peer.send(*[data(1, message(b""), end=False)] * 5000)
    assert len(peer.service.heard) == 5000
    frames = peer.send(*[data(1, b"", end=False)] * 5000)
    assert only(frames, FrameType.GOAWAY).code == 11


def test_deadlines_are_known() -> None:
    peer = Peer()
    stream = listen(peer, 1, ("grpc-timeout", "2S"))
    assert stream.deadline_s == peer.now_s + 2
