"""Whatever a peer sends: nothing is raised, only whole frames come out, the connection serves on or says goodbye."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.call import NO_TRAILERS, Stream
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import PREFACE, FrameType, frame
from gateway.transport.h2.limits import MAX_WINDOW_BYTES, Limits
from tests.unit.gateway.transport.h2.peer import (
    SETTINGS_ACK,
    Frame,
    Peer,
    data,
    message,
    reset,
    window_update,
)
from tests.unit.gateway.transport.h2.peer import settings as settings_frame

LIMITS = Limits(max_streams=4, max_message_bytes=1000, reset_burst=5, max_header_list_bytes=2000)

stream_ids = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 11, 2**31 - 1])
frames = st.builds(
    lambda kind, flags, stream_id, payload: struct.pack(">LBL", len(payload) << 8 | kind, flags, stream_id) + payload,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x24, 0x2D, 0xFF]),
    stream_ids,
    st.binary(max_size=40) | st.sampled_from([bytes(4), bytes(5), bytes(8), message(b"x"), b"\0\0\0\x01"]),
)
cuts = st.integers(1, 40) | st.just(1 << 20)


def check(peer: Peer, stream: bytes, cut: int) -> None:
    """Feeds a stream and looks at what comes of it."""
    out: list[Frame] = []
    for start in range(0, len(stream), cut):
        out += peer.send(stream[start : start + cut])
    for call in peer.service.kept:
        call.reply(b"late", NO_TRAILERS)
    out += peer.frames()
    faults = [item for item in out if item.kind == FrameType.GOAWAY and item.code]
    assert all(item.code != ErrorCode.INTERNAL_ERROR for item in faults), faults[0].payload
    assert len(faults) <= 1
    if faults:
        assert out[-1] is faults[0]
        assert peer.connection.finished
        assert peer.connection.idle
    peer.connection.sweep(1.0, peer.now_s, 0)
    peer.frames()
    account = peer.connection.sender.account
    assert account.held_bytes >= 0
    peer.connection.lost()
    assert account.held_bytes == 0, "nothing is held for who has left"


@given(st.binary(max_size=200).filter(lambda noise: not noise.startswith(PREFACE)), cuts)
@settings(deadline=None, max_examples=100)
def test_noise_instead_of_a_preface(noise: bytes, cut: int) -> None:
    connection = Peer(LIMITS, greet=False).connection
    for start in range(0, len(noise), cut):
        connection.receive(noise[start : start + cut], 0.0)
    assert connection.finished or PREFACE.startswith(noise)
    assert connection.output()[:12] in (b"", b"HTTP/1.1 505")


@given(st.lists(frames, max_size=20), cuts)
@settings(deadline=None, max_examples=100)
def test_frames_without_sense(sent: list[bytes], cut: int) -> None:
    check(Peer(LIMITS), b"".join(sent), cut)


def conversation(peer: Peer) -> bytes:
    """A bit of everything, all of it valid."""
    keep = (":path", "/test.Echo/Keep")
    return b"".join(
        (
            PREFACE,
            settings_frame(initial_window_size=100, max_frame_size=20_000),
            SETTINGS_ACK,
            peer.request(1, b"hello"),
            peer.request(3, b"kept", keep, ("grpc-timeout", "1S")),
            peer.headers(5),
            peer.headers(7, keep),
            data(7, message(b"later")[:3], end=False),
            data(5, message(b"x" * 300)),
            data(7, message(b"later")[3:], end=False),
            window_update(5, 1000),
            window_update(0, 1000),
            frame(FrameType.PING, 0, 0, bytes(8)),
            peer.trailers(7, ("x-t", "1")),
            reset(3),
            frame(FrameType.PRIORITY, 0, 9, bytes(5)),
            frame(FrameType.HEADERS, 0, 9, peer.block()[:0]),
            frame(FrameType.CONTINUATION, 4, 9, peer.block()),
            data(9, message(b"bye")),
            frame(FrameType.GOAWAY, 0, 0, bytes(8)),
        )
    )


def streaming_conversation(peer: Peer) -> bytes:
    """The same of streaming calls: echoed, listened to, paused; messages whole, cut, several in a frame."""
    chat, listen, watch = ((":path", f"/test.Echo/{name}") for name in ("Chat", "Listen", "Watch"))
    many = message(b"") * 70 + message(b"x" * 200)[:100]
    return b"".join(
        (
            PREFACE,
            settings_frame(initial_window_size=100),
            SETTINGS_ACK,
            peer.headers(1, chat),
            peer.headers(3, listen, ("grpc-timeout", "1S")),
            peer.headers(5, watch),
            data(1, message(b"y" * 300), end=False),
            data(3, many, end=False),
            data(5, message(b"one") + message(b"two"), end=False),
            data(1, message(b"z" * 500)[:200], end=False),
            data(3, message(b"x" * 200)[100:], end=False),
            window_update(1, 1000),
            data(1, message(b"z" * 500)[200:], end=False),
            peer.trailers(5, ("x-t", "1")),
            data(3, b""),
            reset(3),
            peer.headers(7, chat),
            data(7, message(b"bye")),
            data(1, b""),
        )
    )


@given(
    st.lists(st.tuples(st.integers(24, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000),
    cuts,
    st.sets(st.integers(0, 3)),
)
@settings(deadline=None, max_examples=100)
def test_a_streaming_conversation_with_bytes_changed(
    changes: list[tuple[int, int]], end: int, cut: int, paused: set[int]
) -> None:
    peer = Peer(LIMITS, greet=False)
    start = peer.service.listen

    def listen(stream: Stream) -> None:
        start(stream)
        if len(peer.service.streams) in paused:
            stream.pause()

    peer.service.listen = listen  # type: ignore[method-assign] # some services are slow
    stream = bytearray(streaming_conversation(peer))
    for where, octet in changes:
        stream[24 + where % (len(stream) - 24)] = octet
    check(peer, bytes(stream[: 24 + end % len(stream)]), cut)


@given(st.lists(st.tuples(st.integers(24, 10_000), st.integers(0, 255)), max_size=6), st.integers(0, 10_000), cuts)
@settings(deadline=None, max_examples=100)
def test_a_conversation_with_bytes_changed(changes: list[tuple[int, int]], end: int, cut: int) -> None:
    peer = Peer(LIMITS, greet=False)
    stream = bytearray(conversation(peer))
    for where, octet in changes:
        stream[24 + where % (len(stream) - 24)] = octet
    check(peer, bytes(stream[: 24 + end % len(stream)]), cut)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=4), cuts)
@settings(deadline=None, max_examples=60)
def test_a_conversation_with_pieces_left_out_or_repeated(pieces: list[tuple[int, int]], cut: int) -> None:
    peer = Peer(LIMITS, greet=False)
    stream = conversation(peer)
    for start, end in pieces:
        where, until = 24 + start % len(stream), 24 + end % len(stream)
        stream = stream[:where] + stream[until:]
    check(peer, stream, cut)


steps = st.lists(
    st.tuples(
        st.sampled_from(["reply", "stream", "connection", "initial", "frame"]),
        st.integers(0, 4),
        st.integers(1, 70_000),
    ),
    max_size=40,
)


class Windows:
    """What a client allows, by the letter of RFC 9113 section 6.9."""

    def __init__(self) -> None:
        self.connection = 65_535
        self.initial = 65_535
        self.streams: dict[int, int] = {}
        self.frame_bytes = 16_384
        self.got: dict[int, bytes] = {}

    def account(self, out: list[Frame]) -> None:
        for item in out:
            if item.kind == FrameType.DATA:
                self.connection -= len(item.payload)
                self.streams[item.stream_id] = self.streams.get(item.stream_id, 0) - len(item.payload)
                assert len(item.payload) <= self.frame_bytes
                assert self.connection >= 0
                assert self.initial + self.streams[item.stream_id] >= 0
                self.got[item.stream_id] = self.got.get(item.stream_id, b"") + item.payload


@given(steps)
@settings(deadline=None, max_examples=100)
def test_windows_are_never_overrun_and_everything_arrives(todo: list[tuple[str, int, int]]) -> None:
    peer, windows = Peer(), Windows()
    calls = {2 * index + 1: peer.keep(2 * index + 1) for index in range(5)}
    bodies: dict[int, bytes] = {}
    for action, index, size in todo:
        stream_id = 2 * index + 1
        if action == "reply" and stream_id not in bodies:
            bodies[stream_id] = bytes([index]) * size
            calls[stream_id].reply(bodies[stream_id], NO_TRAILERS)
        elif action == "stream":
            windows.streams[stream_id] = windows.streams.get(stream_id, 0) + size
            windows.account(peer.send(window_update(stream_id, size)))
        elif action == "connection":
            windows.connection += size
            windows.account(peer.send(window_update(0, size)))
        elif action == "initial":
            # Not until the acknowledgement may a client count on a smaller window; it follows at once here.
            windows.account(peer.frames())
            windows.initial = size
            windows.account(peer.send(settings_frame(initial_window_size=size)))
        elif action == "frame":
            windows.account(peer.frames())
            windows.frame_bytes = 16_384 + size
            windows.account(peer.send(settings_frame(max_frame_size=windows.frame_bytes)))
        windows.account(peer.frames())
    windows.connection += 2**30
    windows.initial = MAX_WINDOW_BYTES - 10**7
    windows.account(peer.send(window_update(0, 2**30), settings_frame(initial_window_size=windows.initial)))
    assert windows.got == {stream_id: message(body) for stream_id, body in bodies.items()}
