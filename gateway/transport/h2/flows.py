"""The streaming calls of one connection."""

from typing import TYPE_CHECKING, Final

from gateway.transport.call import Metadata, Streaming
from gateway.transport.h2.errors import ErrorCode, Refusal, StreamFault
from gateway.transport.h2.flow import H2Stream
from gateway.transport.h2.grpc import PREFIX_BYTES
from gateway.transport.h2.inbox import Inbox
from gateway.transport.h2.streams import SMALL_BYTES

if TYPE_CHECKING:
    from gateway.transport.h2.requests import Requests


TURN_MESSAGES: Final = 64
"""Messages handed over in one turn of the loop, per connection: a window full of tiny ones makes nobody else wait."""


class Flows:
    """Streams whose method is `Streaming`, from their HEADERS until both directions are done or one was reset."""

    __slots__ = ("_left", "_requests", "_turn_s", "live", "stirred")

    def __init__(self, requests: "Requests") -> None:
        self._requests = requests
        self.live: dict[int, H2Stream] = {}
        self.stirred: dict[H2Stream, None] = {}
        """Streams that want their messages again, or the rest of them, in the order of their turns."""
        self._left = TURN_MESSAGES
        """How many messages may still be handed over in this turn."""
        self._turn_s = 0.0
        requests.sender.on_sent = self._sent

    def open(
        self, stream_id: int, metadata: Metadata, streaming: Streaming, content_length: int | None, *, ended: bool
    ) -> None:
        """HEADERS have come: the service takes over. Raises StreamFault when content-length promises more."""
        requests = self._requests
        inbox = Inbox(stream_id, metadata, content_length, requests.limits.stream_window_bytes)
        if ended:
            inbox.ended = True
            inbox.check_length()
        flow = H2Stream(self, requests.sender, inbox, requests.limits, requests.now_s, may_idle=streaming.may_idle)
        self.live[stream_id] = flow
        requests.sender.flows[stream_id] = flow.outgoing
        requests.intake.settle(inbox)
        try:
            streaming.start(flow)
        except Exception as error:  # noqa: BLE001 - logged by crash, and the caller hears of it
            flow.crash(error)
        if ended:
            self._deliver(flow)

    def data(self, flow: H2Stream, data: memoryview, payload_bytes: int, *, ended: bool) -> None:
        """DATA, or the end. Raises StreamFault as `Intake.feed`, and STREAM_CLOSED after the end."""
        inbox, intake = flow.inbox, self._requests.intake
        if inbox.ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        if flow.closed:  # its answer is on its way out, nobody reads any more
            inbox.ended = ended
            intake.spend(inbox, payload_bytes)
            return
        size = len(data)
        waited = inbox.has_message
        try:
            intake.feed(inbox, data, payload_bytes)
            if inbox.has_message and inbox.granted_bytes:
                intake.release(inbox)
            if size < SMALL_BYTES and not ended and (size < PREFIX_BYTES if waited else not inbox.has_message):
                self._requests.chat()  # it brought no message, or none can be told from what waits
            if ended:
                inbox.ended = True
                inbox.check_length()
        except Refusal as refusal:
            inbox.ended = ended  # then the answer closes the stream, and nothing may follow it (section 5.1)
            self.refuse(flow, refusal)
        else:
            self._deliver(flow)

    def stir(self, flow: H2Stream) -> None:
        """The stream wants its messages again, in the next turn of the loop."""
        if not self.stirred:
            self._requests.sender.wake()
        self.stirred[flow] = None

    def let_go(self, inbox: Inbox) -> None:
        """Nobody wants its messages any more: others may have its share, however long its answer takes to leave."""
        self._requests.intake.release(inbox)

    def go_on(self) -> None:
        """Tells the streams what they wait for: their messages, or that they may send again."""
        self._left = TURN_MESSAGES
        stirred, self.stirred = self.stirred, {}
        while stirred and self._left > 0:
            flow = next(iter(stirred))
            del stirred[flow]
            self._deliver(flow)
        if stirred:  # whom the turn did not reach is first in the next
            if not self.stirred:
                self._requests.sender.wake()
            self.stirred = stirred | self.stirred
        relieved, self._requests.sender.relieved = self._requests.sender.relieved, []
        for stream_id in relieved:
            if stream_id in self.live:
                self.live[stream_id].relieve()

    def forget(self, stream_id: int) -> bool:
        """The stream is reset; whether there was one. To be called before the sender drops it."""
        flow = self.live.pop(stream_id, None)
        if flow is None:
            return False
        self._requests.intake.close(flow.inbox)
        if not flow.closed:
            flow.cancel()
        return True

    def cancel_all(self) -> None:
        """The connection is lost."""
        for flow in list(self.live.values()):
            self._requests.intake.close(flow.inbox)
            if not flow.closed:
                flow.cancel()
        self.live.clear()
        self.stirred.clear()

    def _deliver(self, flow: H2Stream) -> None:
        requests, inbox = self._requests, flow.inbox
        if requests.now_s != self._turn_s:
            self._turn_s, self._left = requests.now_s, TURN_MESSAGES
        try:
            self._left -= flow.deliver(self._left)
            if not inbox.paused and not flow.closed:
                if inbox.has_message:
                    self.stir(flow)
                elif not inbox.ended:
                    requests.intake.replenish(inbox)
        except Refusal as refusal:
            self.refuse(flow, refusal)
        if inbox.buffered_bytes != inbox.held_bytes and flow.stream_id in self.live:
            requests.intake.settle(inbox)

    def refuse(self, flow: H2Stream, refusal: Refusal) -> None:
        """The stream cannot be served, or no further."""
        if refusal.reason:
            self._requests.counters.count(refusal.reason)
        flow.abort(refusal.code, str(refusal), refusal.trailers)

    def _sent(self, stream_id: int) -> None:
        """The last byte of the answer was rendered. Who still sends is told to stop (RFC 9113 section 8.1)."""
        flow = self.live.pop(stream_id, None)
        if flow is not None:
            self._requests.intake.close(flow.inbox)
            if not flow.inbox.ended:
                self._requests.tell_off(stream_id)
