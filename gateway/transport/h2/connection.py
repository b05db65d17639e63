"""One HTTP/2 connection of a gRPC server, sans-I/O: `receive` takes bytes, `output` gives bytes, handlers get calls.

Theory of operation. `_frames` is one loop over the received bytes. Nearly every request of nearly every client is a
HEADERS frame whose block was seen before, and one DATA frame that ends the stream and holds exactly one message; the
loop recognises these two with a dictionary look-up each and calls the handler. Everything else goes frame by frame
through `Requests` and `Control`, which know the rules. Both ways share the same state, so that they can alternate from
one frame to the next:

    Streams   which ids were used          Requests.opened   HEADERS arrived
    Intake    DATA is arriving             Requests.calls    half-closed (remote): awaiting an answer, or sending it
    Sender    answers going out
"""

import logging
from collections.abc import Callable
from typing import Final

from gateway.transport.call import Service
from gateway.transport.h2.calls import H2Call
from gateway.transport.h2.control import DRAIN_PING, Control
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, StreamFault
from gateway.transport.h2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    PREFACE,
    STREAM_ID_MASK,
    WORD,
    FrameType,
    frame,
    goaway,
)
from gateway.transport.h2.grpc import PREFIX, PREFIX_BYTES
from gateway.transport.h2.limits import MAX_WINDOW_BYTES, Limits
from gateway.transport.h2.requests import Requests
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.settings import server_preface

logger = logging.getLogger(__name__)

_NOBODY: Final = -1
"""No stream has this id: nothing takes the quick way."""
_HTTP1_TEXT: Final = b"This port speaks gRPC, which needs HTTP/2.\n"
_HTTP1_ANSWER: Final = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_HTTP1_TEXT), _HTTP1_TEXT)
)

_DATA: Final = int(FrameType.DATA)
_HEADERS: Final = int(FrameType.HEADERS)
_WINDOW_UPDATE: Final = int(FrameType.WINDOW_UPDATE)


class Connection:
    """The server's side of one connection."""

    __slots__ = (
        "_control",
        "_dead",
        "_greeted",
        "_leaving",
        "_limits",
        "_needed_bytes",
        "_requests",
        "_rest",
        "sender",
    )

    def __init__(self, service: Service, limits: Limits, wake: Callable[[], None]) -> None:
        """`wake` is called when, outside of `receive`, there is something to take with `output`."""
        self.sender = Sender({}, wake)
        self._limits = limits
        self._requests = Requests(service, limits, self.sender)
        self._control = Control(self._requests, self.sender)
        self._rest = bytearray()
        self._needed_bytes = 0
        self._greeted = False
        self._leaving = False
        self._dead = False

    @property
    def greeted(self) -> bool:
        """The peer's preface has arrived, its SETTINGS included."""
        return self._control.settled

    @property
    def finished(self) -> bool:
        """Nothing more will come out: once `output` is written, the connection is to be closed."""
        return self._dead or (self._leaving and self.idle)

    @property
    def idle(self) -> bool:
        """No call is under way."""
        requests = self._requests
        return not requests.calls and not requests.opened and not requests.intake.uploads

    def receive(self, data: bytes, now_s: float) -> None:
        """Takes bytes that arrived at `now_s` (time.monotonic). Never raises for what a peer sent."""
        if self._dead:
            return
        sender = self.sender
        sender.awake = True
        self._requests.now_s = now_s
        try:
            self._receive(data, now_s)
            if sender.paused and sender.control_replies > self._limits.max_control_replies + self._limits.max_streams:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers the peer does not read")
        except ConnectionFault as fault:
            self.close(fault.code, str(fault))
        except Exception:
            logger.exception("connection closed after an internal error")
            self.close(ErrorCode.INTERNAL_ERROR, "internal error")
        if (self._control.drain_seen or self._control.peer_leaving) and not self._leaving:
            self.leave()
        sender.awake = False

    def output(self) -> bytes:
        """Takes what is to be written: everything small, and about BURST_BYTES of what waits for windows."""
        sender = self.sender
        sender.awake = False
        sender.control_replies = 0
        if sender.can_pump:
            sender.pump()
        data = b"".join(sender.out)
        sender.out.clear()
        return data

    def drain(self) -> None:
        """Says goodbye without losing a request (RFC 9113 section 6.8): a GOAWAY that forbids nothing, and a PING.

        The answer to the PING proves that the peer has stopped opening streams; then `leave` follows.
        """
        if self._dead or self._leaving:
            return
        if not self._greeted:
            self.close(ErrorCode.NO_ERROR, "shutting down")
            return
        ping = frame(FrameType.PING, 0, 0, DRAIN_PING)
        self.sender.control(goaway(STREAM_ID_MASK, ErrorCode.NO_ERROR, "shutting down") + ping)

    def leave(self) -> None:
        """The final GOAWAY: later streams are refused, calls in flight are finished."""
        if self._dead or self._leaving:
            return
        self._leaving = True
        self._requests.accepting = False
        self.sender.control(goaway(self._requests.streams.last_id, ErrorCode.NO_ERROR))

    def close(self, code: ErrorCode, reason: str) -> None:
        """Ends the connection now; every caller in flight hears that its call is cancelled."""
        if self._dead:
            return
        if code:
            logger.debug("connection closed with %s: %s", code.name, reason)
        self._dead = True
        self.sender.close()
        if self._greeted:
            self.sender.control(goaway(self._requests.streams.last_id, code, reason))
        self._requests.cancel_all()

    def lost(self) -> None:
        """The peer is gone."""
        self._dead = True
        self.sender.close()
        self._requests.cancel_all()

    def _receive(self, data: bytes, now_s: float) -> None:
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed_bytes:
                return
            data = bytes(rest)
            rest.clear()
        start = 0
        if not self._greeted:
            if not self._greet(data):
                return
            start = len(PREFACE)
        end = self._frames(data, start, now_s)
        if end < len(data):
            rest += memoryview(data)[end:]

    def _greet(self, data: bytes) -> bool:
        """Whether the client's preface is there (RFC 9113 section 3.4); keeps the beginning of one.

        The server's own is sent only then, so that whoever speaks something else can be answered in kind.
        """
        if data.startswith(PREFACE):
            self._greeted = True
            self.sender.out.append(server_preface(self._limits))
            return True
        if PREFACE.startswith(data):
            self._rest += data
            return False
        if b" HTTP/1." in data[:8192]:
            self.sender.out.append(_HTTP1_ANSWER)
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 client preface")

    # The hot loop is one function on purpose: each call it would make per frame costs every request some 5 %.
    def _frames(self, data: bytes, pos: int, now_s: float) -> int:  # noqa: C901, PLR0912, PLR0915 - see above
        """Reads all complete frames from `pos` on; returns where the first incomplete one begins."""
        limits, sender, requests = self._limits, self.sender, self._requests
        calls, known, opened, streams = requests.calls, requests.known, requests.opened, requests.streams
        max_frame_bytes = limits.max_frame_bytes
        max_quick_bytes = min(max_frame_bytes, limits.stream_window_bytes, limits.max_message_bytes + PREFIX_BYTES)
        credited = sender.credits
        unpack, unpack_prefix, unpack_word = HEADER.unpack_from, PREFIX.unpack_from, WORD.unpack_from
        total = len(data)
        taken_bytes = 0
        quick_id, room = self._quick_id(), requests.room
        while total - pos >= HEADER_BYTES:
            word, flags, stream_id = unpack(data, pos)
            start = pos + HEADER_BYTES
            size = word >> 8
            end = start + size
            if size > max_frame_bytes:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {size} bytes")
            if end > total:
                break
            pos = end
            kind = word & 0xFF
            if kind == _HEADERS:
                if stream_id == quick_id and flags == END_HEADERS and room > 0:
                    request = known.get(data[start:end])
                    if request is not None:
                        opened[stream_id] = request
                        streams.next_id = quick_id = stream_id + 2
                        room -= 1
                        continue
            elif kind == _DATA and flags == END_STREAM and PREFIX_BYTES <= size <= max_quick_bytes and quick_id > 0:
                request = opened.get(stream_id)
                if request is not None:
                    metadata, handler, timeout_s, length = request
                    compressed, message_bytes = unpack_prefix(data, start)
                    if message_bytes == size - PREFIX_BYTES and not compressed and (length is None or length == size):
                        del opened[stream_id]
                        taken_bytes += size
                        message = data[start + PREFIX_BYTES : end]
                        call = H2Call(sender, stream_id, metadata, message, now_s, now_s + timeout_s)
                        calls[stream_id] = call
                        try:
                            handler(call)
                        except Exception as error:  # noqa: BLE001 - logged by crash, and the caller hears of it
                            call.crash(error)
                        continue
            elif kind == _WINDOW_UPDATE and size == 4 and stream_id in opened and stream_id not in credited:
                # grpcio sends one with every request.
                (increment_bytes,) = unpack_word(data, start)
                if 0 < increment_bytes <= MAX_WINDOW_BYTES - sender.initial_window_bytes and quick_id > 0:
                    credited[stream_id] = increment_bytes
                    continue
            self._frame(kind, flags, stream_id & STREAM_ID_MASK, data, start, end)
            quick_id, room = self._quick_id(), requests.room
        self._needed_bytes = end - pos if total - pos >= HEADER_BYTES else HEADER_BYTES
        if taken_bytes:
            requests.intake.take(taken_bytes)
        return pos

    def _quick_id(self) -> int:
        """The one stream id that may be opened the quick way: the next one, while nothing special goes on."""
        requests = self._requests
        if requests.open_block is None and requests.accepting and self._control.settled:
            return requests.streams.next_id
        return _NOBODY

    def _frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """One frame by the rules."""
        requests = self._requests
        if not self._control.settled and (kind != FrameType.SETTINGS or flags & 1):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if requests.open_block is not None and kind != FrameType.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame of type {kind} inside a header block")
        try:
            if kind == _DATA:
                requests.data(flags, stream_id, data, start, end)
            elif kind == _HEADERS:
                requests.headers(flags, stream_id, data, start, end)
            else:
                self._other_frame(kind, flags, stream_id, data, start, end)
        except StreamFault as fault:
            logger.debug("stream %d reset with %s: %s", stream_id, fault.code.name, fault)
            requests.reset(stream_id, fault.code)

    def _other_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        control = self._control
        if kind == FrameType.WINDOW_UPDATE:
            control.window_update(stream_id, data, start, end)
        elif kind == FrameType.SETTINGS:
            control.settings(flags, stream_id, data[start:end])
        elif kind == FrameType.PING:
            control.ping(flags, stream_id, data[start:end])
        elif kind == FrameType.RST_STREAM:
            self._requests.rst_stream(stream_id, end - start)
        elif kind == FrameType.CONTINUATION:
            self._requests.continuation(flags, stream_id, data[start:end])
        elif kind == FrameType.PRIORITY:
            control.priority(stream_id, end - start)
        elif kind == FrameType.GOAWAY:
            control.goaway(stream_id, end - start)
        elif kind == FrameType.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        # Unknown types are ignored (section 4.1).
