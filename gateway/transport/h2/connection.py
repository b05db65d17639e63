"""One HTTP/2 connection of a gRPC server, sans-I/O: `receive` takes bytes, `output` gives bytes, handlers get calls.

Theory of operation. `_frames` is one loop over the received bytes. Nearly every request of nearly every client is a
HEADERS frame whose block was seen before, and one DATA frame that ends the stream and holds exactly one message; the
loop recognises these two with a dictionary look-up each and calls the handler, as it does the frames in the middle of
large messages. Everything else goes frame by frame through `Requests` and `Control`, which know the rules. Both ways
share the same state, so that they can alternate from one frame to the next:

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
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood, StreamFault
from gateway.transport.h2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    PADDED,
    PREFACE,
    STREAM_ID_MASK,
    WORD,
    FrameType,
    frame,
    goaway,
)
from gateway.transport.h2.grpc import PREFIX, PREFIX_BYTES
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.memory import Account, Memory
from gateway.transport.h2.patience import Patience
from gateway.transport.h2.requests import Requests
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.settings import server_preface

logger = logging.getLogger(__name__)

_unpack_header: Final = HEADER.unpack_from
_unpack_prefix: Final = PREFIX.unpack_from
_unpack_word: Final = WORD.unpack_from

_HTTP1_TEXT: Final = b"This port speaks gRPC, which needs HTTP/2.\n"
_HTTP1_ANSWER: Final = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_HTTP1_TEXT), _HTTP1_TEXT)
)

PART_BYTES: Final = 4096
"""Larger DATA frames are taken as they come."""

_DATA: Final = int(FrameType.DATA)
_HEADERS: Final = int(FrameType.HEADERS)
_WINDOW_UPDATE: Final = int(FrameType.WINDOW_UPDATE)


class Connection:
    """The server's side of one connection."""

    __slots__ = (
        "_control",
        "_counters",
        "_dead",
        "_flows",
        "_greeted",
        "_last_id",
        "_leaving",
        "_limits",
        "_max_frame_bytes",
        "_max_quick_bytes",
        "_max_unread",
        "_needed_bytes",
        "_parted",
        "_patience",
        "_quick",
        "_requests",
        "_rest",
        "ending",
        "sender",
    )

    def __init__(
        self,
        service: Service,
        limits: Limits,
        wake: Callable[[], None],
        counters: Counters | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`wake` is called when, outside of `receive`, there is something to take with `output`."""
        self._counters = counters or Counters()
        account = Account(memory or Memory(limits.max_buffered_bytes))
        self.sender = Sender({}, wake, limits, self._counters, account)
        self._limits = limits
        self._requests = Requests(service, limits, self.sender, self._counters)
        self._flows = self._requests.flows
        self._control = Control(self._requests, self.sender, limits)
        self._patience = Patience(limits, self._requests, self.sender)
        self._rest = bytearray()
        self._needed_bytes = 0
        self._parted = False
        """Of a large DATA frame has been taken what has come; `_rest` is the header of the remainder."""
        self._max_frame_bytes = limits.max_frame_bytes
        self._max_quick_bytes = min(
            limits.max_frame_bytes, limits.stream_window_bytes, limits.max_message_bytes + PREFIX_BYTES
        )
        self._max_unread = limits.max_control_replies + limits.max_streams
        self._quick = False
        """Nothing special goes on: requests of the usual shape may take the quick way."""
        self._greeted = False
        self._leaving = False
        self._last_id = STREAM_ID_MASK
        """The last stream we said we serve; later words may name lower ones only (RFC 9113 section 6.8)."""
        self._dead = False
        self.ending = False
        """`finished` is True or will be."""

    @property
    def greeted(self) -> bool:
        """The peer's preface has arrived, its SETTINGS included."""
        return self._control.settled

    @property
    def finished(self) -> bool:
        """Nothing more will come out: once `output` is written, the connection is to be closed."""
        return self._dead or (self._leaving and self.idle)

    @property
    def opened(self) -> int:
        """Streams opened since the connection began."""
        return self._requests.streams.opened

    @property
    def idle(self) -> bool:
        """No call is under way."""
        requests = self._requests
        return not (requests.calls or requests.opened or requests.intake.uploads or requests.flows.live)

    def receive(self, data: bytes, now_s: float) -> None:
        """Takes bytes that arrived at `now_s` (time.monotonic). Never raises for what a peer sent."""
        if self._dead:
            return
        sender = self.sender
        sender.awake = True
        self._requests.now_s = now_s
        try:
            pos = 0
            if self._parted:
                pos = self._go_on(data, 0)
            elif self._rest or not self._greeted:
                data = self._collect(data)
            self._frames(data, now_s, pos)
            if sender.control_replies > self._max_unread and sender.paused:
                raise Flood("unread", "too many answers the peer does not read")
        except ConnectionFault as fault:
            self._end(fault)
        except Exception:
            logger.exception("connection closed after an internal error")
            self.close(ErrorCode.INTERNAL_ERROR, "internal error")
        sender.awake = False

    def sweep(self, elapsed_s: float, now_s: float, buffered_bytes: int) -> None:
        """Looks for what takes too long.

        `elapsed_s` since the last sweep, at `now_s` (time.monotonic); `buffered_bytes`: output that the socket has not
        taken.
        """
        if self._dead:
            return
        try:
            self._patience.look(elapsed_s, now_s, buffered_bytes, self._rest, idle=self.idle)
        except ConnectionFault as fault:
            self._end(fault)

    def output(self) -> bytes:
        """Takes what is to be written: everything small, and about BURST_BYTES of what waits for windows."""
        sender = self.sender
        sender.awake = False
        sender.control_replies = 0
        if sender.room_bytes < 0:
            sender.pump()
        flows = self._flows
        if flows.stirred or sender.relieved:
            flows.go_on()
        out = sender.out
        data = b"".join(out)
        out.clear()
        return data

    def drain(self, reason: str = "shutting down") -> None:
        """Says goodbye without losing a request (RFC 9113 section 6.8): a GOAWAY that forbids nothing, and a PING.

        The answer to the PING proves that the peer has stopped opening streams; then `leave` follows.
        """
        if self._dead or self._leaving:
            return
        if not self._greeted:
            self.close(ErrorCode.NO_ERROR, reason)
            return
        ping = frame(FrameType.PING, 0, 0, DRAIN_PING)
        self.sender.control(goaway(STREAM_ID_MASK, ErrorCode.NO_ERROR, reason) + ping)

    def leave(self) -> None:
        """The final GOAWAY: later streams are refused, calls in flight are finished."""
        if self._dead or self._leaving:
            return
        self.ending = self._leaving = True
        self._requests.accepting = self._quick = False
        self._last_id = self._requests.streams.last_id
        self.sender.control(goaway(self._last_id, ErrorCode.NO_ERROR))

    def close(self, code: ErrorCode, reason: str) -> None:
        """Ends the connection now; every caller in flight hears that its call is cancelled."""
        if self._dead:
            return
        if code:
            logger.debug("connection closed with %s: %s", code.name, reason)
        self.ending = self._dead = True
        if self._greeted:
            self.sender.control(goaway(min(self._last_id, self._requests.streams.last_id), code, reason))
        self._requests.cancel_all()
        self._patience.end()

    def _end(self, fault: ConnectionFault) -> None:
        if fault.reason:
            self._counters.count(fault.reason)
        self.close(fault.code, str(fault))

    def lost(self) -> None:
        """The peer is gone."""
        self.ending = self._dead = True
        self._requests.cancel_all()
        self._patience.end()

    def _collect(self, data: bytes) -> bytes:
        """What can be read now, with what was left over before; empty while the frame or the preface is incomplete."""
        rest = self._rest
        if len(rest) + len(data) < self._needed_bytes:
            rest += data
            return b""
        data = b"".join((rest, data))
        rest.clear()
        return data if self._greeted else self._greet(data)

    def _greet(self, data: bytes) -> bytes:
        """What follows the client's preface (RFC 9113 section 3.4); keeps the beginning of one.

        The server's own is sent only then, so that whoever speaks something else can be answered in kind.
        """
        if data.startswith(PREFACE):
            self._greeted = True
            self.sender.out.append(server_preface(self._limits))
            return data[len(PREFACE) :]
        if PREFACE.startswith(data):
            self._rest += data
            return b""
        if b" HTTP/1." in data[:8192]:
            self.sender.out.append(_HTTP1_ANSWER)
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 client preface")

    # The hot loop is one function on purpose: each call it would make per frame costs every request some 5 %.
    def _frames(self, data: bytes, now_s: float, pos: int) -> None:  # noqa: C901, PLR0912, PLR0915 - see above
        """Reads all complete frames from `pos` on, and keeps the rest."""
        sender, requests = self.sender, self._requests
        calls, known, opened, streams = requests.calls, requests.reader.known, requests.opened, requests.streams
        uploads = requests.intake.uploads
        total, taken_bytes = len(data), 0
        quick, room = self._quick, requests.room
        while total - pos >= HEADER_BYTES:
            word, flags, stream_id = _unpack_header(data, pos)
            start = pos + HEADER_BYTES
            size = word >> 8
            end = start + size
            if end > total:
                break
            pos = end
            kind = word & 0xFF
            if quick:
                if kind == _HEADERS:
                    if stream_id == streams.next_id and flags == END_HEADERS and room > 0:
                        block = data[start:end]
                        request = known.get(block)
                        if request is not None:
                            streams.next_id = stream_id + 2
                        else:
                            self._sized(size)
                            request = requests.begin(stream_id, block)
                        if request is not None:
                            opened[stream_id] = request
                            room -= 1
                        else:
                            room = requests.room
                        continue
                elif kind == _DATA:
                    request = opened.get(stream_id)
                    if request is not None and flags == END_STREAM and PREFIX_BYTES <= size <= self._max_quick_bytes:
                        metadata, handler, timeout_s, length = request
                        compressed, message_bytes = _unpack_prefix(data, start)
                        if message_bytes == size - PREFIX_BYTES and not compressed and length in (None, size):
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
                    elif not flags and size <= self._max_quick_bytes:
                        upload = uploads.get(stream_id)
                        if upload is not None and upload.goes_on(memoryview(data)[start:end]):
                            taken_bytes += size
                            continue
                elif (  # grpcio sends one with every request
                    kind == _WINDOW_UPDATE
                    and size == 4
                    and stream_id in opened
                    and sender.credit_once(stream_id, _unpack_word(data, start)[0])
                ):
                    continue
            self._frame(kind, flags, stream_id & STREAM_ID_MASK, data, start, end)
            quick, room = self._quick, requests.room
        if pos < total:
            self._keep(data, pos)
        if taken_bytes:
            requests.intake.take(taken_bytes)

    def _keep(self, data: bytes, pos: int) -> None:
        """Keeps an incomplete frame, unless it is going to be too large. Of large uploads what is there is taken."""
        self._patience.frame_s = 0.0
        self._needed_bytes = HEADER_BYTES
        start = pos + HEADER_BYTES
        if start <= len(data):
            word, flags, stream_id = _unpack_header(data, pos)
            size = self._sized(word >> 8)
            if size > PART_BYTES and word & 0xFF == _DATA and self._quick and not flags & PADDED:
                self._parted = self._requests.promote(stream_id)
                if self._parted:
                    self._rest += data[pos:start]
                    self._go_on(data, start)
                    return
            self._needed_bytes += size
        self._rest += memoryview(data)[pos:]

    def _go_on(self, data: bytes, pos: int) -> int:
        """Takes what is there of a large DATA frame, so that nothing is copied twice; the position behind it.

        Where a frame ends means nothing (RFC 9113 section 6.1), so it may as well have been sent as two.
        """
        rest, requests = self._rest, self._requests
        word, flags, stream_id = _unpack_header(rest)
        left_bytes: int = word >> 8
        size = min(left_bytes, len(data) - pos)
        rest[:] = HEADER.pack(word - (size << 8), flags, stream_id)
        self._parted = size < left_bytes
        if not self._parted:
            rest.clear()
        part = memoryview(data)[pos : pos + size]
        try:
            if requests.part(stream_id, part, ended=bool(flags & END_STREAM) and not self._parted):
                self._patience.frame_s = 0.0
        except StreamFault as fault:
            logger.debug("stream %d reset with %s: %s", stream_id, fault.code.name, fault)
            requests.reset(stream_id, fault.code)
        return pos + size

    def _sized(self, size: int) -> int:
        """The size of a frame's payload. Raises ConnectionFault FRAME_SIZE_ERROR above our SETTINGS_MAX_FRAME_SIZE."""
        if size > self._max_frame_bytes:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {size} bytes")
        return size

    def _frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """One frame by the rules."""
        self._sized(end - start)
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
        self._quick = self._control.settled and requests.accepting and requests.open_block is None

    def _other_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        control = self._control
        self._requests.chat()
        if kind == FrameType.WINDOW_UPDATE:
            control.window_update(stream_id, data, start, end)
        elif kind == FrameType.SETTINGS:
            control.settings(flags, stream_id, data[start:end])
        elif kind == FrameType.PING:
            if control.ping(flags, stream_id, data[start:end]):
                self.leave()
        elif kind == FrameType.RST_STREAM:
            self._requests.rst_stream(stream_id, end - start)
        elif kind == FrameType.CONTINUATION:
            self._requests.continuation(flags, stream_id, data[start:end])
        elif kind == FrameType.PRIORITY:
            control.priority(stream_id, end - start)
        elif kind == FrameType.GOAWAY:
            control.goaway(stream_id, end - start)
            self.leave()
        elif kind == FrameType.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        # Unknown types are ignored (section 4.1).
