"""For each named difference the shortest conversation that shows it, from behind the client's first SETTINGS."""

from typing import Final

from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY, FrameType
from tests.properties.reference.ours import PAUSE
from tests.properties.reference.script import (
    EARLIER,
    LATEST,
    NEW,
    STREAMING,
    UNARY,
    Answer,
    Headers,
    Plain,
    Step,
    setting,
    words,
)
from tests.properties.reference.theirs import Pairs
from tests.unit.gateway.transport.h2.peer import message

ENDED: Final = END_HEADERS | END_STREAM
OPEN: Final = Headers(NEW, STREAMING, END_HEADERS)
RESET: Final = Plain(FrameType.RST_STREAM, 0, LATEST, words(8))
GOAWAY: Final = Plain(FrameType.GOAWAY, 0, 0, words(0, 0))
MALFORMED: Final = Headers(NEW, STREAMING[1:], END_HEADERS)
ITSELF: Final = words(1) + b"\x10"


def data(body: bytes, flags: int = END_STREAM, stream: int = LATEST) -> Plain:
    return Plain(FrameType.DATA, flags, stream, body)


def window(increment: int, stream: int = LATEST) -> Plain:
    return Plain(FrameType.WINDOW_UPDATE, 0, stream, words(increment))


def settings(*entries: tuple[int, int]) -> Plain:
    return Plain(FrameType.SETTINGS, 0, 0, b"".join(setting(*entry) for entry in entries))


def request(*pairs: tuple[bytes, bytes]) -> Headers:
    return Headers(NEW, [*STREAMING, *pairs], END_HEADERS)


def declared(size: int) -> Headers:
    return request((b"content-length", str(size).encode()))


def raw(payload: bytes) -> Plain:
    return Plain(FrameType.HEADERS, END_HEADERS, NEW, payload)


def changed(name: bytes, value: bytes) -> Pairs:
    return [(each, value if each == name else before) for each, before in STREAMING]


FILL: Final[list[Step]] = [
    Answer(LATEST, PAUSE),
    data(message(bytes(70_000))[:13_107], 0),
    *[data(bytes(13_107), 0)] * 4,
]
"""All of a stream's window, and of the connection's, which opens again."""

EXAMPLES: Final[dict[str, list[Step]]] = {
    "malformed": [MALFORMED],
    "trailers-without-end": [OPEN, Headers(LATEST, [(b"x-a", b"1")], END_HEADERS)],
    "zero-increment": [OPEN, window(0)],
    "stream-window": [OPEN, *FILL, data(b"x")],
    "priority-size": [OPEN, Plain(FrameType.PRIORITY, 0, LATEST, bytes(4))],
    "content-length": [declared(10), data(message(b"x"))],
    "content-length-early": [declared(5), data(message(b"x"), 0)],
    "self-dependency": [OPEN, Plain(FrameType.PRIORITY, 0, LATEST, ITSELF)],
    "unknown-setting": [settings((8, 2))],
    "alternative-service": [Plain(10, 0, 0, b"\xff")],
    "closed-window": [OPEN, window(2**31 - 1 - 65_535), RESET, settings((4, 65_536))],
    "reserved-increment-bit": [OPEN, window(2**31 + 1)],
    "zero-increment-closed": [OPEN, RESET, window(0)],
    "reset-idle": [OPEN, Plain(FrameType.RST_STREAM, 0, 3, words(8))],
    "content-length-at-end": [Headers(NEW, [*UNARY, (b"content-length", b"1")], ENDED)],
    "padding-over-priority": [Plain(FrameType.HEADERS, END_HEADERS | PADDED | PRIORITY, NEW, b"\4" + bytes(8))],
    "settings-in-order": [settings((4, 2**31), (4, 1))],
    "push-promise": [OPEN, Plain(FrameType.PUSH_PROMISE, END_HEADERS, LATEST, b"")],
    "late-frame": [OPEN, window(2**31 - 1), data(b"")],
    "told-once": [OPEN, RESET, data(b""), data(b"")],
    "data-on-closed": [OPEN, data(b""), Answer(LATEST, None), data(b"")],
    "interrupted-block": [Plain(FrameType.HEADERS, 0, NEW, b""), Plain(FrameType.PING, 0, 0, b"")],
    "naked-continuation": [OPEN, RESET, OPEN, Plain(FrameType.CONTINUATION, END_HEADERS, EARLIER, b"")],
    "compression": [raw(b"\x80")],
    "absurd-list": [request(*[(b"x-large", bytes([number]) * 1200) for number in range(65, 80)])],
    "table-size-updates": [raw(b"\x20\x20\x20")],
    "acknowledgement-size": [Plain(FrameType.SETTINGS, ACK, 0, bytes(6))],
    "two-faults": [Plain(FrameType.RST_STREAM, 0, 0, b"")],
    "too-many-streams": [OPEN, OPEN, OPEN, OPEN, OPEN],
    "after-goaway": [OPEN, GOAWAY, OPEN],
    "refused-unread": [OPEN, GOAWAY, MALFORMED],
    "many-continuations": [Headers(NEW, STREAMING, END_HEADERS, pieces=15, huffman=False)],
    "no-authority": [Headers(NEW, STREAMING[:3] + STREAMING[4:], END_HEADERS)],
    "empty-authority": [Headers(NEW, [*changed(b":authority", b""), (b"host", b"x")], END_HEADERS)],
    "several-hosts": [Headers(NEW, [*STREAMING[:3], *STREAMING[4:], (b"host", b"x"), (b"host", b"y")], END_HEADERS)],
    "host-as-text": [Headers(NEW, [*changed(b":authority", b"\xc3\xa9"), (b"host", b"\xe9")], END_HEADERS)],
    "connect-with-path": [Headers(NEW, changed(b":method", b"CONNECT"), END_HEADERS)],
    "length-of-refused": [Headers(NEW, [*changed(b":method", b"GET"), (b"content-length", b"ten")], END_HEADERS)],
    "empty-cookies": [request((b"cookie", b"a=1"), (b"cookie", b""))],
    "length-in-trailers": [OPEN, Headers(LATEST, [(b"content-length", b"ten")], ENDED)],
    "empty-pseudo": [Headers(NEW, changed(b":scheme", b""), END_HEADERS)],
    "connect": [Headers(NEW, [(b":method", b"CONNECT"), (b":authority", b"x")], END_HEADERS)],
    "te": [request((b"te", b"Trailers"))],
    "odd-cookie": [Headers(NEW, [(b"cookie", b"a=1"), *STREAMING], END_HEADERS)],
    "odd-length": [request((b"content-length", b"10"), (b"content-length", b"10"))],
}
FIRST: Final[dict[str, list[Step]]] = {"first-frame": [Plain(FrameType.PING, 0, 0, bytes(8))]}
"""The same in place of the first SETTINGS."""
