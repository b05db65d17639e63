"""What a client sends and a server does, by chance: mostly right, sometimes wrong in one thing, sometimes in all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis import strategies as st

from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY, FrameType
from tests.properties.reference.ours import PAUSE, RESUME
from tests.properties.reference.pair import Pair
from tests.properties.reference.theirs import Pairs
from tests.unit.gateway.transport.h2.peer import Frame, message

T = TypeVar("T")
NEW, LATEST, EARLIER, OPEN = -1, -2, -3, -4
"""Streams that are not named by number: the next that may be opened, the last that was, the one before, and the last of
which the request still arrives."""

STREAMING: Final[Pairs] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/stream"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
]
UNARY: Final[Pairs] = [*STREAMING[:2], (b":path", b"/unary"), *STREAMING[3:]]
REPEATED: Final[Pairs] = [(b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=2")]
GOOD: Final[list[Pairs]] = [
    STREAMING,
    UNARY,
    [*UNARY, (b"te", b"trailers"), (b"x-bytes", b"\xff\xfe")],
    [*STREAMING, *REPEATED],
    [*STREAMING, (b"content-length", b"10")],
    [*UNARY, (b"content-length", b"10")],
]
REFUSED: Final[list[Pairs]] = [
    [(b":method", b"GET"), *STREAMING[1:]],
    STREAMING[:4],
    [*STREAMING, (b"grpc-timeout", b"soon")],
    [*STREAMING, (b"x-large", bytes(5000).replace(b"\0", b"x"))],
]
"""HTTP, but not calls."""
MALFORMED: Final[list[Pairs]] = [
    STREAMING[1:],
    [*STREAMING, (b"X-Upper", b"1")],
    [*STREAMING, (b":path", b"/late")],
    [*STREAMING, (b"connection", b"close")],
    [*STREAMING, (b"content-length", b"ten")],
    [*STREAMING, (b"x-a", b"line\nbreak")],
]
TRAILERS: Final[list[Pairs]] = [[(b"x-trailer", b"1")], [(b":path", b"/x")], []]


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of several strategies, each as often as its number says."""
    return st.sampled_from([strategy for weight, strategy in choices for _ in range(weight)]).flatmap(
        lambda chosen: chosen
    )


used = st.sampled_from([LATEST, LATEST, LATEST, EARLIER])
streams = weighted((20, st.just(OPEN)), (8, used), (1, st.sampled_from([NEW, 0, 1, 2, 3, 5, 7, 9, 2**31 - 1])))
messages = st.lists(st.integers(0, 12), max_size=3).map(lambda sizes: b"".join(message(bytes(size)) for size in sizes))
bodies = messages | st.sampled_from(
    [
        message(bytes(5)),
        message(bytes(60_000))[:16_000],
        bytes(16_000),
        bytes([0, 0, 0, 1, 0, 7]),
        message(b"", compressed=1),
        b"\x07",
    ]
)


@dataclass(frozen=True)
class Headers:
    """A header block in one or several frames."""

    stream: int
    pairs: Pairs
    flags: int
    padding: int = 0
    priority: bytes = bytes(5)
    pieces: int = 1
    huffman: bool = True

    def frames(self, pair: Pair) -> Iterator[Frame]:
        stream_id = resolved(pair, self.stream)
        block = bytes(pair.encoder.encode(self.pairs, huffman=self.huffman))
        size = len(block) // self.pieces + 1
        first, rest = block[:size], [block[start : start + size] for start in range(size, len(block), size)]
        flags = self.flags & ~END_HEADERS if rest else self.flags
        head = (self.padding.to_bytes(1, "big") if flags & PADDED else b"") + (
            self.priority if flags & PRIORITY else b""
        )
        tail = bytes(self.padding) if flags & PADDED else b""
        yield Frame(FrameType.HEADERS, flags, stream_id, head + first + tail)
        for number, piece in enumerate(rest, 1):
            last = END_HEADERS if number == len(rest) else 0
            yield Frame(FrameType.CONTINUATION, last, stream_id, piece)


@dataclass(frozen=True)
class Plain:
    """Any frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def frames(self, pair: Pair) -> Iterator[Frame]:
        yield Frame(self.kind, self.flags, resolved(pair, self.stream), self.payload)


@dataclass(frozen=True)
class Changed:
    """Frames of which one thing is another."""

    step: Headers | Plain
    what: str
    where: int
    value: int

    def frames(self, pair: Pair) -> Iterator[Frame]:
        sent = list(self.step.frames(pair))
        chosen = self.where % len(sent)
        yield from (self._change(item) if number == chosen else item for number, item in enumerate(sent))

    def _change(self, item: Frame) -> Frame:
        payload = bytearray(item.payload)
        match self.what:
            case "flags":
                return Frame(item.kind, item.flags ^ 1 << self.value % 8, item.stream_id, item.payload)
            case "stream":
                return Frame(item.kind, item.flags, self.value, item.payload)
            case "octet" if payload:
                payload[self.where % len(payload)] = self.value
            case "shorter":
                del payload[len(payload) - self.value % 12 :]
            case _:
                payload += bytes(self.value % 12)
        return Frame(item.kind, item.flags, item.stream_id, bytes(payload))


@dataclass(frozen=True)
class Answer:
    """What the service does: a message of so many bytes, PAUSE, RESUME, or None: the end."""

    stream: int
    size: int | None


Step = Headers | Plain | Changed | Answer


def resolved(pair: Pair, stream: int) -> int:
    """The number of a stream."""
    latest = pair.theirs.h2.highest_inbound_stream_id or -1
    if stream == OPEN:
        arriving = [stream_id for stream_id, live in pair.theirs.state().live.items() if not live.ended]
        return max(arriving, default=max(1, latest))
    return stream if stream >= 0 else max(1, {NEW: latest + 2, LATEST: latest, EARLIER: latest - 2}[stream])


def run(steps: list[Step], *, greet: bool = True) -> Pair:
    """Takes both servers through the steps; raises AssertionError where they differ and may not."""
    pair = Pair()
    if greet:
        pair.feed(Frame(FrameType.SETTINGS, 0, 0, b""))
    for step in steps:
        if pair.over:
            break
        if isinstance(step, Answer):
            pair.answer(resolved(pair, step.stream), step.size)
            continue
        for item in step.frames(pair):
            pair.feed(item)
    return pair


def words(*numbers: int) -> bytes:
    """32-bit integers."""
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def setting(identifier: int, value: int) -> bytes:
    """One entry of SETTINGS."""
    return identifier.to_bytes(2, "big") + words(value)


ends = st.sampled_from([0, END_STREAM])
increments = st.sampled_from([0, 1, 1000, 2**31 - 1, 2**31, 2**31 - 1 - 65_535]) | st.integers(1, 2**31 - 1)
values = st.sampled_from([0, 1, 1, 2, 100, 16_384, 65_535, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
requests = st.builds(
    Headers,
    stream=weighted((15, st.just(NEW)), (1, streams)),
    pairs=weighted((5, st.sampled_from(GOOD)), (1, st.sampled_from(REFUSED)), (1, st.sampled_from(MALFORMED))),
    flags=st.sampled_from([4, 4, 4, 4, 4, 5, 4 | PADDED, 4 | PRIORITY, 5 | PADDED | PRIORITY]),
    padding=st.integers(0, 9),
    priority=st.sampled_from([bytes(5), words(1) + b"\x10", words(3) + b"\0"]),
    pieces=st.sampled_from([1, 1, 1, 1, 2, 3, 10]),
    huffman=st.booleans(),
)
trailers = st.builds(Headers, used, st.sampled_from(TRAILERS), st.sampled_from([5, 5, 5, 4]))
data = st.builds(
    lambda stream, flags, body, padding: Plain(
        FrameType.DATA,
        flags if padding is None else flags | PADDED,
        stream,
        body if padding is None else bytes([padding]) + body + bytes(padding),
    ),
    streams,
    ends,
    bodies,
    st.none() | st.none() | st.integers(0, 20),
)
windows = st.builds(lambda stream, size: Plain(FrameType.WINDOW_UPDATE, 0, stream, words(size)), streams, increments)
control = weighted(
    (3, windows),
    (2, st.builds(lambda size: Plain(FrameType.WINDOW_UPDATE, 0, 0, words(size)), increments)),
    (3, st.builds(lambda stream, code: Plain(FrameType.RST_STREAM, 0, stream, words(code)), used, st.integers(0, 20))),
    (
        3,
        st.builds(
            lambda pairs: Plain(FrameType.SETTINGS, 0, 0, b"".join(setting(*pair) for pair in pairs)),
            st.lists(st.tuples(st.integers(0, 9), values), max_size=3),
        ),
    ),
    (1, st.builds(lambda flags, octet: Plain(FrameType.PING, flags, 0, bytes([octet]) * 8), ends, st.integers(0, 255))),
    (1, st.builds(lambda stream, on: Plain(FrameType.PRIORITY, 0, stream, words(on, 0)[:5]), used, st.integers(0, 7))),
    (1, st.builds(lambda last: Plain(FrameType.GOAWAY, 0, 0, words(last, 0)), st.integers(0, 3))),
    (1, st.just(Plain(FrameType.SETTINGS, ACK, 0, b""))),
)
anything = st.builds(
    Plain,
    st.integers(0, 12) | st.integers(0, 255),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x24, 0x2D, 0xFF]),
    streams,
    st.binary(max_size=40) | st.sampled_from([bytes(4), bytes(5), bytes(8), message(b"x"), bytes(16_385)]),
)
changed = st.builds(
    Changed,
    requests | data | control | trailers,
    st.sampled_from(["flags", "stream", "octet", "octet", "shorter", "longer"]),
    st.integers(0, 50),
    st.integers(0, 255),
)
answers = st.builds(Answer, used, st.sampled_from([None, PAUSE, RESUME, 65_530]) | st.integers(0, 500))
steps = st.builds(
    lambda first, rest: [first, *rest],
    st.builds(Headers, st.just(NEW), st.sampled_from(GOOD), st.just(END_HEADERS)),
    st.lists(
        weighted((10, requests), (18, data), (3, trailers), (8, control), (6, answers), (2, changed), (1, anything)),
        min_size=5,
        max_size=40,
    ),
)
