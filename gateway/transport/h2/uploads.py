"""The receiving half: requests on their way in, and the windows that bound what a peer may send (RFC 9113 section 5.2).

Every stream starts with the same window, so small requests never wait. A message that does not fit it is granted the
rest in one WINDOW_UPDATE, but only `max_upload_bytes` of such messages at a time (or one larger one): the next is
granted when one is done. The connection's window is given back as it is used; the streams' windows are the bound.
"""

from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from io import BytesIO
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Refusal, StreamFault
from gateway.transport.h2.frames import window_update
from gateway.transport.h2.grpc import PREFIX_BYTES, read_prefix, unpack
from gateway.transport.h2.limits import MAX_WINDOW_BYTES, Limits
from gateway.transport.h2.memory import metadata_bytes
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.streams import SMALL_BYTES

GROWTH: Final = 8
"""A message that arrives takes up to so many times what has come of it; that is what is counted. Growing copies, so
it grows in few steps."""
SPARE_BYTES: Final = 256
"""Window kept beyond what a message needs, for padding: one maximally padded frame."""


class HeaderBlock:
    """A header block of which CONTINUATION frames are still to come."""

    __slots__ = ("continuations", "ended", "fragments", "stream_id", "waited_s")

    def __init__(self, stream_id: int, ended: bool, first: bytes) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.fragments = bytearray(first)
        self.continuations = 0
        self.waited_s = 0.0
        """How long its end has been due."""


class Arriving(ABC):
    """A stream's receive window, and what of its messages has come."""

    __slots__ = (
        "_content_length",
        "buffered_bytes",
        "granted_bytes",
        "held_bytes",
        "metadata",
        "received_bytes",
        "stream_id",
        "waiting",
        "window_bytes",
    )

    def __init__(self, stream_id: int, metadata: Metadata, content_length: int | None, window_bytes: int) -> None:
        self.stream_id = stream_id
        self.metadata = metadata
        self.received_bytes = 0
        """DATA bytes that have come."""
        self.window_bytes = window_bytes
        """What the peer may still send on this stream."""
        self.granted_bytes = 0
        """Share of the upload budget its present message holds."""
        self.held_bytes = 0
        """What of `buffered_bytes` the connection's account counts."""
        self.buffered_bytes = metadata_bytes(metadata.values)
        """What it takes in memory."""
        self.waiting = False
        """Stands in the line for a share."""
        self._content_length = content_length

    @property
    @abstractmethod
    def missing_bytes(self) -> int:
        """DATA bytes of the present message still to come, as far as is known."""

    @abstractmethod
    def feed(self, data: memoryview, limits: Limits) -> None:
        """Takes DATA. Raises Refusal for a message that cannot be served, as soon as that is known."""

    @abstractmethod
    def low_bytes(self, window_bytes: int) -> int:
        """The window is opened again below this; `window_bytes`: what streams start with."""

    @abstractmethod
    def needs_grant(self, window_bytes: int) -> bool:
        """Whether the present message needs a share of the budget."""

    def check_length(self) -> None:
        """After END_STREAM. Raises StreamFault PROTOCOL_ERROR when content-length says otherwise (section 8.1.1)."""
        if self._content_length not in (None, self.received_bytes):
            text = f"content-length is {self._content_length}, but {self.received_bytes} bytes arrived"
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, text)


class Upload(Arriving):
    """The one message of a unary request of which more is to come.

    It is copied once: what is written into a BytesIO is the very object that `getvalue` gives, if nothing follows.
    """

    __slots__ = ("_body", "_compressed", "_prefix", "_room_bytes", "_wanted_bytes", "started_s")

    def __init__(
        self, stream_id: int, metadata: Metadata, content_length: int | None, window_bytes: int, started_s: float
    ) -> None:
        super().__init__(stream_id, metadata, content_length, window_bytes)
        self.started_s = started_s
        """When it began; the caller's timeout runs from here."""
        self._prefix = b""
        self._body = BytesIO()
        self._room_bytes = 0
        """What the body takes up: it may grow to that before it is moved."""
        self._compressed = False
        self._wanted_bytes = 0
        """Prefix and message together; 0 until the prefix is complete."""

    @property
    def missing_bytes(self) -> int:
        return (self._wanted_bytes or PREFIX_BYTES) - self.received_bytes

    @property
    def received(self) -> bytes:
        """Prefix and message, as far as they have come."""
        return self._prefix + self._body.getvalue()[: self.received_bytes - len(self._prefix)]

    def low_bytes(self, window_bytes: int) -> int:
        return self.missing_bytes + SPARE_BYTES

    def needs_grant(self, window_bytes: int) -> bool:
        return self._wanted_bytes > 0

    def feed(self, data: memoryview, limits: Limits) -> None:
        self.received_bytes += len(data)
        if not self._wanted_bytes:
            lacking_bytes = PREFIX_BYTES - len(self._prefix)
            self._prefix += data[:lacking_bytes]
            self.buffered_bytes += min(lacking_bytes, len(data))
            data = data[lacking_bytes:]
            if len(self._prefix) == PREFIX_BYTES:
                self._compressed, size = read_prefix(self._prefix, 0, self.metadata, limits)
                self._wanted_bytes = PREFIX_BYTES + size
        received_bytes = self.received_bytes - len(self._prefix)
        if received_bytes > self._room_bytes:
            self._make_room(received_bytes)
        self._body.write(data)
        if self._wanted_bytes and self.received_bytes > self._wanted_bytes:
            raise Refusal(Code.UNIMPLEMENTED, "unary call with more than one request message")

    def goes_on(self, data: memoryview) -> bool:
        """Takes DATA from the middle of a message for which there is room already, and no window to be opened.

        False: it took nothing, and this frame is one for `Intake.feed` and the rules around it.
        """
        size = len(data)
        received_bytes = self.received_bytes + size
        window_bytes = self.window_bytes - size
        if (
            size < SMALL_BYTES
            or received_bytes > self._room_bytes
            or window_bytes < self._wanted_bytes - received_bytes + SPARE_BYTES
        ):
            return False
        self._body.write(data)
        self.received_bytes = received_bytes
        self.window_bytes = window_bytes
        return True

    def _make_room(self, received_bytes: int) -> None:
        """Grows in large steps, each of which copies; but a length that lies costs little."""
        body = self._body
        room_bytes = max(received_bytes, min(self._wanted_bytes - PREFIX_BYTES, GROWTH * received_bytes))
        self.buffered_bytes += room_bytes - self._room_bytes
        self._room_bytes = room_bytes
        start = body.tell()
        body.seek(self._room_bytes - 1)
        body.write(b"\0")
        body.seek(start)

    def finish(self, limits: Limits) -> bytes:
        """The message, after END_STREAM.

        Raises Refusal UNIMPLEMENTED without a message (request cardinality violation, grpc doc/statuscodes.md),
        INTERNAL for a truncated one, and what `check_length` and `unpack` raise.
        """
        self.check_length()
        if not self.received_bytes:
            raise Refusal(Code.UNIMPLEMENTED, "unary call without a request message")
        if self.missing_bytes or not self._wanted_bytes:
            raise Refusal(Code.INTERNAL, "request message is cut off")
        message = self._body.getvalue()
        return unpack(message, self.metadata, limits) if self._compressed else message


class Intake:
    """Receive windows of one connection."""

    __slots__ = (
        "_account",
        "_connection_bytes",
        "_granted_bytes",
        "_limits",
        "_sender",
        "_taken_bytes",
        "_waiting",
        "uploads",
    )

    def __init__(self, limits: Limits, sender: Sender) -> None:
        self.uploads: dict[int, Upload] = {}
        self._limits = limits
        self._sender = sender
        self._account = sender.account
        self._connection_bytes = limits.connection_window_bytes
        self._taken_bytes = 0
        self._granted_bytes = 0
        self._waiting: deque[Arriving] = deque()

    def take(self, size: int) -> None:
        """Counts DATA payload against the connection's window, and opens it again when half is used.

        Raises ConnectionFault FLOW_CONTROL_ERROR when the peer overran it.
        """
        taken_bytes = self._taken_bytes + size
        if taken_bytes * 2 >= self._connection_bytes:
            if taken_bytes > self._connection_bytes:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection window")
            self._sender.control(window_update(0, taken_bytes))
            taken_bytes = 0
        self._taken_bytes = taken_bytes

    def feed(self, arriving: Arriving, data: memoryview, payload_bytes: int) -> None:
        """Takes a DATA frame; `payload_bytes` counts its padding too.

        Raises StreamFault FLOW_CONTROL_ERROR when the peer overran the stream's window, Refusal RESOURCE_EXHAUSTED when
        the listener's memory is used up, and what `feed` of it raises.
        """
        self.spend(arriving, payload_bytes)
        self._account.check(len(data))
        arriving.feed(data, self._limits)

    def settle(self, arriving: Arriving) -> None:
        """Counts what it takes in memory now."""
        change = arriving.buffered_bytes - arriving.held_bytes
        if change:
            arriving.held_bytes += change
            self._account.change(change)

    def spend(self, arriving: Arriving, payload_bytes: int) -> None:
        """Counts a DATA frame against its stream's window. Raises StreamFault as `feed`."""
        arriving.window_bytes -= payload_bytes
        if arriving.window_bytes < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the stream window")

    def replenish(self, arriving: Arriving) -> None:
        """Opens the stream's window if what comes needs more of it than is left and the budget allows.

        Raises Refusal RESOURCE_EXHAUSTED for a large message that the listener's memory does not hold.
        """
        window_bytes = self._limits.stream_window_bytes
        if arriving.window_bytes >= arriving.low_bytes(window_bytes):
            return
        if arriving.granted_bytes or not arriving.needs_grant(window_bytes):
            self._open(arriving)
        elif not arriving.waiting:
            self._account.check(arriving.missing_bytes)
            arriving.waiting = True
            self._waiting.append(arriving)
            self._grant()

    def remove(self, stream_id: int) -> Upload | None:
        """Forgets an upload that is complete or was reset."""
        upload = self.uploads.pop(stream_id, None)
        if upload is not None:
            self.close(upload)
        return upload

    def close(self, arriving: Arriving) -> None:
        """Nothing more of it is wanted, and nothing of it is held."""
        self._account.change(-arriving.held_bytes)
        arriving.held_bytes = 0
        self.release(arriving)

    def clear(self) -> None:
        """The connection is lost, with all uploads."""
        self._waiting.clear()
        for stream_id in list(self.uploads):
            self.remove(stream_id)

    def release(self, arriving: Arriving) -> None:
        """Its message is complete, or nobody waits for it: its share of the budget goes to those that wait."""
        self._granted_bytes -= arriving.granted_bytes
        arriving.granted_bytes = 0
        if arriving.waiting:
            arriving.waiting = False
            with suppress(ValueError):  # the line is gone with the connection
                self._waiting.remove(arriving)
        if self._waiting:
            self._grant()

    def _grant(self) -> None:
        """Grants messages that wait, first come first served."""
        while self._waiting:
            arriving = self._waiting[0]
            needed_bytes = arriving.missing_bytes + SPARE_BYTES
            if self._granted_bytes and self._granted_bytes + needed_bytes > self._limits.max_upload_bytes:
                return
            arriving.granted_bytes = needed_bytes
            self._granted_bytes += needed_bytes
            arriving.waiting = False
            self._open(self._waiting.popleft())

    def _open(self, arriving: Arriving) -> None:
        window_bytes = self._limits.stream_window_bytes
        target_bytes = max(window_bytes, arriving.missing_bytes + max(SPARE_BYTES, window_bytes // 2))
        increment_bytes = min(target_bytes, MAX_WINDOW_BYTES) - arriving.window_bytes
        if increment_bytes > 0:
            arriving.window_bytes += increment_bytes
            self._sender.control(window_update(arriving.stream_id, increment_bytes))
