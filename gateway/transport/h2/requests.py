"""Requests: HEADERS, CONTINUATION, DATA and RST_STREAM become calls (RFC 9113 sections 6.1, 6.2, 6.4, 6.10 and 8.1)."""

import logging
import math

from gateway.errors import Code
from gateway.transport.call import Service, Streaming
from gateway.transport.h2 import fields
from gateway.transport.h2.calls import H2Call, LargeCall
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood, Refusal, StreamFault
from gateway.transport.h2.flows import Flows
from gateway.transport.h2.frames import (
    END_HEADERS,
    END_STREAM,
    FrameType,
    expect_size,
    rst_stream,
    unpadded,
    unprioritised,
)
from gateway.transport.h2.grpc import failure_block
from gateway.transport.h2.headers import HeaderReader, Request, too_large
from gateway.transport.h2.hpack import Block
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.streams import SMALL_BYTES, Chatter, ResetBudget, Streams
from gateway.transport.h2.uploads import HeaderBlock, Intake, Upload

logger = logging.getLogger(__name__)


class Requests:
    """The streams of one connection, from their first HEADERS to the handler of their call."""

    __slots__ = (
        "_budget",
        "accepting",
        "calls",
        "chatter",
        "counters",
        "flows",
        "intake",
        "limits",
        "now_s",
        "open_block",
        "opened",
        "reader",
        "sender",
        "streams",
    )

    def __init__(self, service: Service, limits: Limits, sender: Sender, counters: Counters) -> None:
        self.counters = counters
        self.chatter = Chatter(limits.chatter_burst, limits.chatter_per_s)
        self.accepting = True
        """New streams are served; False once the final GOAWAY was sent."""
        self.calls = sender.calls
        self.streams = Streams()
        self.intake = Intake(limits, sender)
        self.opened: dict[int, Request] = {}
        """Streams of which only HEADERS arrived; the first DATA makes them an Upload, if not at once a call."""
        self.open_block: HeaderBlock | None = None
        self.now_s = 0.0
        """When the bytes being read arrived."""
        self.limits = limits
        self.sender = sender
        self.reader = HeaderReader(service, limits, lambda: sender.peer)
        self._budget = ResetBudget(limits.reset_burst, limits.resets_per_s)
        self.flows = Flows(self)

    def headers(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """HEADERS (section 6.2)."""
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        start, end = unpadded(flags, data, start, end)
        block = data[unprioritised(flags, start, end) : end]
        ended = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._block(stream_id, ended, block)
        else:
            self.open_block = HeaderBlock(stream_id, ended, block)

    def begin(self, stream_id: int, block: bytes) -> Request | None:
        """A new stream with a complete header block and room for it: the request, DATA of which is to come.

        None when it is not one: refused, or a streaming call. Does what `headers` does, without looking at what the
        caller knows already.
        """
        self.streams.next_id = stream_id + 2
        try:
            metadata, handler, timeout_s, length = self.reader.read(block)
            if not isinstance(handler, Streaming):
                return metadata, handler, timeout_s, length
            self.flows.open(stream_id, metadata, handler, length, ended=False)
        except Refusal as refusal:
            self._refuse(stream_id, refusal, ended=False)
        except StreamFault as fault:
            logger.debug("stream %d reset with %s: %s", stream_id, fault.code.name, fault)
            self.reset(stream_id, fault.code)
        return None

    def continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        """CONTINUATION (section 6.10); at most so many, of at most so many bytes (CVE-2024-27316)."""
        block = self.open_block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"CONTINUATION on stream {stream_id} continues nothing")
        block.continuations += 1
        block.fragments += payload
        limits = self.limits
        if block.continuations > limits.max_continuations or len(block.fragments) > limits.max_header_block_bytes:
            raise Flood("headers", "header block is too long")
        if flags & END_HEADERS:
            self.open_block = None
            self._block(stream_id, block.ended, bytes(block.fragments))

    def data(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """DATA (section 6.1)."""
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        payload_bytes = end - start
        self.intake.take(payload_bytes)
        start, end = unpadded(flags, data, start, end)
        ended = bool(flags & END_STREAM)
        flow = self.flows.live.get(stream_id)
        if flow is not None:
            self.flows.data(flow, memoryview(data)[start:end], payload_bytes, ended=ended)
            return
        if end - start < SMALL_BYTES and not ended:
            self.chat()
        if stream_id in self.calls:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        if not self.promote(stream_id):
            self.streams.meet_closed(stream_id, "DATA")
            self.chat()
            return
        self._arrived(stream_id, memoryview(data)[start:end], payload_bytes, ended)

    def part(self, stream_id: int, data: memoryview, *, ended: bool) -> bool:
        """More of a large DATA frame of an upload, as it comes; whether the upload is still wanted."""
        self.intake.take(len(data))
        if stream_id not in self.intake.uploads:
            return False
        self._arrived(stream_id, data, len(data), ended)
        return True

    def _arrived(self, stream_id: int, data: memoryview, payload_bytes: int, ended: bool) -> None:
        upload = self.intake.uploads[stream_id]
        try:
            self.intake.feed(upload, data, payload_bytes)
            self.intake.settle(upload)
            if ended:
                self._complete(stream_id)
            else:
                self.intake.replenish(upload)
        except Refusal as refusal:
            self._refuse(stream_id, refusal, ended)

    def rst_stream(self, stream_id: int, size: int) -> None:
        """RST_STREAM (section 6.4): the caller left."""
        expect_size(FrameType.RST_STREAM, 4, size)
        if self.streams.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on idle stream {stream_id}")
        early = self._is_early(stream_id)
        if self._forget(stream_id):
            self.streams.remember_reset(stream_id, by_us=False)
            if early:
                self._budget.spend(self.now_s, self.streams.opened)

    def chat(self, frames: int = 1) -> None:
        """Charges frames that bring no request on. Raises Flood when there were too many."""
        chatter = self.chatter
        chatter.left -= frames
        if chatter.left < 0:
            chatter.refill(self.now_s, self.streams.opened, self.sender.data_frames)

    def give_up(self, stream_id: int) -> None:
        """The request did not arrive in time."""
        self.counters.upload_timeout += 1
        refusal = Refusal(Code.DEADLINE_EXCEEDED, "the request message did not arrive in time; send faster")
        self._refuse(stream_id, refusal, ended=False)

    def drop_reply(self, stream_id: int) -> None:
        """The peer did not open its window in time."""
        self.counters.write_timeout += 1
        self._forget(stream_id)
        self._reset(stream_id, ErrorCode.CANCEL)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """A stream error: the peer broke a rule on this stream."""
        self._forget(stream_id)
        self._reset(stream_id, code)
        self._budget.spend(self.now_s, self.streams.opened)

    @property
    def room(self) -> int:
        """How many more streams the peer may open; those that are gone count while somebody works on their calls."""
        live = len(self.calls) + len(self.opened) + len(self.intake.uploads) + len(self.flows.live)
        return self.limits.max_streams - live - len(self.sender.abandoned)

    def is_live(self, stream_id: int) -> bool:
        """Whether the stream is neither idle nor closed."""
        return (
            stream_id in self.calls
            or stream_id in self.opened
            or stream_id in self.intake.uploads
            or stream_id in self.flows.live
        )

    def promote(self, stream_id: int) -> bool:
        """Whether the stream is one whose request is still arriving; it is an Upload then."""
        request = self.opened.pop(stream_id, None)
        if request is not None:
            upload = Upload(stream_id, request[0], request[3], self.limits.stream_window_bytes, self.now_s)
            self.intake.uploads[stream_id] = upload
            self.intake.settle(upload)
            return True
        return stream_id in self.intake.uploads

    def cancel_all(self) -> None:
        """The connection is lost: every caller left. Who hears of one call may still answer another."""
        self.opened.clear()
        self.intake.clear()
        for call in list(self.calls.values()):
            if not call.closed:
                call.cancel()
        self.flows.cancel_all()
        self.calls.clear()
        self.sender.close()

    def _block(self, stream_id: int, ended: bool, block: bytes) -> None:
        """A complete header block: a request begins, or its trailers end it."""
        if stream_id >= self.streams.next_id:
            self._open(stream_id, ended, block)
            return
        decoded = self.reader.decode(block)
        flow = self.flows.live.get(stream_id)
        if stream_id in self.calls or (flow is not None and flow.inbox.ended):
            raise StreamFault(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if flow is not None or self.promote(stream_id):
            self._trailers(stream_id, ended, decoded)
        else:
            self.streams.meet_reused(stream_id)
            self.chat()

    def _open(self, stream_id: int, ended: bool, block: bytes) -> None:
        self.streams.open(stream_id)
        if not self.accepting or self.room <= 0:
            self.reader.decode(block)
            self._reset(stream_id, ErrorCode.REFUSED_STREAM)
            self._count_refused()
            return
        try:
            metadata, handler, timeout_s, length = self.reader.read(block)
            if isinstance(handler, Streaming):
                self.flows.open(stream_id, metadata, handler, length, ended=ended)
                return
            self.opened[stream_id] = metadata, handler, timeout_s, length
            if ended:
                self.promote(stream_id)
                self._complete(stream_id)
        except Refusal as refusal:
            self._refuse(stream_id, refusal, ended)

    def _count_refused(self) -> None:
        """A peer that opens more streams than it may wastes as much as one that resets them."""
        if self.accepting:
            self.counters.streams += 1
            self._budget.spend(self.now_s, self.streams.opened)

    def _is_early(self, stream_id: int) -> bool:
        """Whether a reset of this stream now looks like one of many: callers whose patience ended reset late."""
        call = self.calls.get(stream_id) or self.flows.live.get(stream_id)
        if call is not None:
            return self.now_s < min(call.arrived_s + self.limits.early_reset_s, call.deadline_s)
        upload = self.intake.uploads.get(stream_id)
        return upload is None or self.now_s < upload.started_s + self.limits.early_reset_s

    def _trailers(self, stream_id: int, ended: bool, decoded: Block | None) -> None:
        """Request trailers mean nothing to a gRPC server, but they end the request."""
        if not ended:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "second HEADERS without END_STREAM")
        flow = self.flows.live.get(stream_id)
        try:
            if decoded is None:
                raise too_large(self.limits)
            fields.check_trailers(decoded.entries())
            if flow is not None:
                self.flows.data(flow, memoryview(b""), 0, ended=True)
            else:
                self._complete(stream_id)
        except Refusal as refusal:
            if flow is not None:
                flow.inbox.ended = True
                self.flows.refuse(flow, refusal)
            else:
                self._refuse(stream_id, refusal, ended)

    def _complete(self, stream_id: int) -> None:
        """END_STREAM: the call goes to its handler. Raises as `Upload.finish`, and Refusal when there is no memory."""
        upload = self.intake.uploads[stream_id]
        message = upload.finish(self.limits)
        self.intake.remove(stream_id)
        metadata = upload.metadata
        deadline_s = math.inf if metadata.timeout_s is None else upload.started_s + metadata.timeout_s
        kind: type[H2Call] = H2Call
        if len(message) > self.limits.stream_window_bytes:
            self.sender.account.check(len(message))  # it may be a thousand times as large as what has come
            kind = LargeCall
        call = kind(self.sender, stream_id, metadata, message, self.now_s, deadline_s)
        self.calls[stream_id] = call
        assert callable(metadata.handler)  # noqa: S101 - streaming calls never become uploads
        try:
            metadata.handler(call)
        except Exception as error:  # noqa: BLE001 - logged by crash, and the caller hears of it
            call.crash(error)

    def _refuse(self, stream_id: int, refusal: Refusal, ended: bool) -> None:
        """Answers with a status; a request that is still on its way is told to stop (RFC 9113 section 8.1)."""
        if refusal.reason:
            self.counters.count(refusal.reason)
        self._forget(stream_id)
        block = failure_block(refusal.code, str(refusal), refusal.trailers, refusal.http_status)
        self.sender.end_stream(stream_id, block)
        if not ended:
            self._reset(stream_id, ErrorCode.NO_ERROR)

    def tell_off(self, stream_id: int) -> None:
        """The answer is complete: the rest of the request is not wanted (RFC 9113 section 8.1)."""
        self._reset(stream_id, ErrorCode.NO_ERROR)

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self.sender.control(rst_stream(stream_id, code))
        self.streams.remember_reset(stream_id, by_us=True)

    def _forget(self, stream_id: int) -> bool:
        """Ends all work on a stream; whether it was live."""
        opened = self.opened.pop(stream_id, None)
        upload = self.intake.remove(stream_id)
        call = self.calls.pop(stream_id, None)
        flow = self.flows.forget(stream_id)
        self.sender.drop(stream_id)
        if call is not None and not call.closed:
            call.cancel()
        return flow or bool(opened or upload or call)
