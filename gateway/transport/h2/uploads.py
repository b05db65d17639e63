"""The receiving half: requests on their way in, and the windows that bound what a peer may send (RFC 9113 section 5.2).

Every stream starts with the same window, so small requests never wait. A message that does not fit it is granted the
rest in one WINDOW_UPDATE, but only `max_upload_bytes` of such messages at a time (or one larger one): the next is
granted when one is done. The connection's window is given back as it is used; the streams' windows are the bound.
"""

from collections import deque
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Refusal, StreamFault
from gateway.transport.h2.frames import window_update
from gateway.transport.h2.grpc import PREFIX_BYTES, message_bytes
from gateway.transport.h2.limits import MAX_WINDOW_BYTES, Limits
from gateway.transport.h2.sending import Sender

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


class Upload:
    """A request of which more is to come."""

    __slots__ = (
        "_buffer",
        "_content_length",
        "_wanted_bytes",
        "granted_bytes",
        "metadata",
        "started_s",
        "waiting",
        "window_bytes",
    )

    def __init__(self, metadata: Metadata, content_length: int | None, window_bytes: int, started_s: float) -> None:
        self.metadata = metadata
        self.started_s = started_s
        """When it began; the caller's timeout runs from here."""
        self.window_bytes = window_bytes
        """What the peer may still send on this stream."""
        self.granted_bytes = 0
        """Share of the upload budget this message holds."""
        self.waiting = False
        """Stands in the line for a share."""
        self._buffer = bytearray()
        self._wanted_bytes = 0
        """Prefix and message together; 0 until the prefix is complete."""
        self._content_length = content_length

    @property
    def received_bytes(self) -> int:
        """DATA bytes that have come."""
        return len(self._buffer)

    @property
    def missing_bytes(self) -> int:
        """DATA bytes still to come, as far as is known."""
        return (self._wanted_bytes or PREFIX_BYTES) - len(self._buffer)

    @property
    def sized(self) -> bool:
        """The length of the message is known."""
        return self._wanted_bytes > 0

    def feed(self, data: memoryview, max_message_bytes: int) -> None:
        """Takes DATA. Raises Refusal for a message that cannot be served, as soon as that is known."""
        self._buffer += data
        if not self._wanted_bytes and len(self._buffer) >= PREFIX_BYTES:
            self._wanted_bytes = PREFIX_BYTES + message_bytes(self._buffer, self.metadata, max_message_bytes)
        if self._wanted_bytes and len(self._buffer) > self._wanted_bytes:
            raise Refusal(Code.UNIMPLEMENTED, "unary call with more than one request message")

    def finish(self) -> bytes:
        """The message, after END_STREAM.

        Raises Refusal UNIMPLEMENTED without a message (request cardinality violation, grpc doc/statuscodes.md),
        INTERNAL for a truncated one; StreamFault PROTOCOL_ERROR when content-length says otherwise (RFC 9113 section
        8.1.1).
        """
        if self._content_length not in (None, len(self._buffer)):
            text = f"content-length is {self._content_length}, but {len(self._buffer)} bytes arrived"
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, text)
        if not self._buffer:
            raise Refusal(Code.UNIMPLEMENTED, "unary call without a request message")
        if self.missing_bytes or not self.sized:
            raise Refusal(Code.INTERNAL, "request message is cut off")
        with memoryview(self._buffer) as view:
            return bytes(view[PREFIX_BYTES:])


class Intake:
    """Receive windows of one connection."""

    __slots__ = ("_connection_bytes", "_granted_bytes", "_limits", "_sender", "_taken_bytes", "_waiting", "uploads")

    def __init__(self, limits: Limits, sender: Sender) -> None:
        self.uploads: dict[int, Upload] = {}
        self._limits = limits
        self._sender = sender
        self._connection_bytes = limits.connection_window_bytes
        self._taken_bytes = 0
        self._granted_bytes = 0
        self._waiting: deque[int] = deque()

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

    def feed(self, stream_id: int, data: memoryview, payload_bytes: int) -> None:
        """Takes a DATA frame of an upload; `payload_bytes` counts its padding too.

        Raises StreamFault FLOW_CONTROL_ERROR when the peer overran the stream's window, and what Upload.feed raises.
        """
        upload = self.uploads[stream_id]
        upload.window_bytes -= payload_bytes
        if upload.window_bytes < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the stream window")
        upload.feed(data, self._limits.max_message_bytes)

    def replenish(self, stream_id: int) -> None:
        """Opens the stream's window if the message needs more of it than is left and the budget allows."""
        upload = self.uploads[stream_id]
        if upload.window_bytes >= upload.missing_bytes + SPARE_BYTES:
            return
        if not upload.sized or upload.granted_bytes:
            self._open(stream_id, upload)
        elif not upload.waiting:
            upload.waiting = True
            self._waiting.append(stream_id)
            self._grant()

    def remove(self, stream_id: int) -> Upload | None:
        """Forgets an upload that is complete or was reset; its share of the budget goes to those that wait."""
        upload = self.uploads.pop(stream_id, None)
        if upload is not None:
            if upload.granted_bytes:
                self._granted_bytes -= upload.granted_bytes
            if upload.waiting:
                self._waiting.remove(stream_id)
            if self._waiting:
                self._grant()
        return upload

    def _grant(self) -> None:
        """Grants uploads that wait, first come first served."""
        while self._waiting:
            upload = self.uploads[self._waiting[0]]
            needed_bytes = upload.missing_bytes + SPARE_BYTES
            if self._granted_bytes and self._granted_bytes + needed_bytes > self._limits.max_upload_bytes:
                return
            upload.granted_bytes = needed_bytes
            self._granted_bytes += needed_bytes
            upload.waiting = False
            self._open(self._waiting.popleft(), upload)

    def _open(self, stream_id: int, upload: Upload) -> None:
        target_bytes = upload.missing_bytes + max(SPARE_BYTES, self._limits.stream_window_bytes // 2)
        increment_bytes = min(target_bytes, MAX_WINDOW_BYTES) - upload.window_bytes
        if increment_bytes > 0:
            upload.window_bytes += increment_bytes
            self._sender.control(window_update(stream_id, increment_bytes))
