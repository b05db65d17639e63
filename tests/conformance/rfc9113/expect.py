"""What a server may do about the bytes it received, as RFC 9113 says it: serve, reset a stream, end the connection."""

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, END_HEADERS, HEADER, FrameType, frame
from gateway.transport.h2.hpack import encode
from tests.unit.gateway.transport.h2.peer import REQUEST, Frame, Peer, data, message

KEEP = (":path", "/test.Echo/Keep")
"""Change of a request that makes its call stay unanswered: its stream stays half-closed (remote)."""


def anything(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A frame, of types and sizes that do not exist too."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def ping(payload: bytes = b"\0\1\2\3\4\5\6\7", *, flags: int = 0, stream_id: int = 0) -> bytes:
    return frame(FrameType.PING, flags, stream_id, payload)


def priority(stream_id: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """A PRIORITY frame; the highest bit of `depends_on` is the exclusive flag."""
    return frame(FrameType.PRIORITY, 0, stream_id, priority_fields(depends_on, weight))


def priority_fields(depends_on: int = 0, weight: int = 15) -> bytes:
    return depends_on.to_bytes(4, "big") + bytes([weight])


def continuation(stream_id: int, fragment: bytes, *, last: bool = True) -> bytes:
    return frame(FrameType.CONTINUATION, END_HEADERS if last else 0, stream_id, fragment)


def plain_block(*changes: tuple[str, str]) -> bytes:
    """REQUEST with changes, as a block that leaves the dynamic table alone: tests add fields of their own to it."""
    pairs = {**dict(REQUEST), **dict(changes)}
    return encode([(name.encode(), value.encode()) for name, value in pairs.items()])


def with_block(stream_id: int, block: bytes, body: bytes = b"hello") -> bytes:
    """A whole call whose header block is given."""
    return frame(FrameType.HEADERS, END_HEADERS, stream_id, block) + data(stream_id, message(body))


def alive(peer: Peer, payload: bytes = b"alive?!!") -> None:
    """The connection still processes frames: it answers a PING."""
    assert Frame(FrameType.PING, ACK, 0, payload) in peer.send(ping(payload))


def connection_error(peer: Peer, code: ErrorCode, *pieces: bytes) -> Frame:
    """The bytes are a connection error (section 5.4.1): one GOAWAY with the code, the last thing that is ever said."""
    frames = peer.send(*pieces)
    goaways = [item for item in frames if item.kind == FrameType.GOAWAY]
    assert [item.code for item in goaways] == [code], frames
    assert frames[-1] is goaways[0]
    assert peer.connection.finished
    assert peer.connection.idle
    assert peer.send(ping()) == []
    return goaways[0]


def stream_error(peer: Peer, stream_id: int, code: ErrorCode, *pieces: bytes) -> list[Frame]:
    """The bytes are a stream error (section 5.4.2): one RST_STREAM with the code; the connection goes on."""
    frames = peer.send(*pieces)
    resets = [(item.stream_id, item.code) for item in frames if item.kind == FrameType.RST_STREAM]
    assert resets == [(stream_id, code)], frames
    assert all(item.kind != FrameType.GOAWAY for item in frames)
    alive(peer)
    return frames


def served(peer: Peer, stream_id: int, frames: list[Frame], body: bytes = b"hello") -> None:
    """The frames hold the whole answer to an echo call, and nothing ended badly."""
    assert all(item.kind not in (FrameType.GOAWAY, FrameType.RST_STREAM) for item in frames), frames
    answer, fields = peer.answers(frames)[stream_id]
    assert answer == message(body)
    assert (fields[":status"], fields["grpc-status"]) == ("200", "0")


def finish(peer: Peer, stream_id: int = 1) -> None:
    """Brings a stream into the state closed, both sides having sent END_STREAM."""
    served(peer, stream_id, peer.send(peer.request(stream_id)))


def data_sizes(frames: list[Frame]) -> list[int]:
    """Payload lengths of the DATA frames."""
    return [len(item.payload) for item in frames if item.kind == FrameType.DATA]
