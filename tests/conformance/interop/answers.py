"""The replies of one stream, in order, each after its interval and as fast as the peer takes them."""

import asyncio
from collections import deque

from gateway.transport.call import Stream, Trailers
from tests.conformance.interop.interop_pb2 import Payload, ResponseParameters, StreamingOutputCallResponse


class Answers:
    """What is still to be sent on a stream. While the peer does not read, its requests wait too.

    Takes over `on_writable`; whoever ends the stream otherwise calls `stop`.
    """

    def __init__(self, stream: Stream, trailers: Trailers) -> None:
        self._stream = stream
        self._trailers = trailers
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[ResponseParameters] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._last = False
        stream.on_writable = self._writable

    def add(self, *parameters: ResponseParameters) -> None:
        """More to send."""
        self._waiting.extend(parameters)
        self._go_on()

    def end(self) -> None:
        """Finishes the stream when all is sent."""
        self._last = True
        self._go_on()

    def stop(self) -> None:
        """Sends nothing any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        while self._waiting and self._timer is None and not self._blocked:
            if interval_us := self._waiting[0].interval_us:
                self._timer = self._loop.call_later(interval_us / 1e6, self._due)
            else:
                self._send()
        if self._last and not self._waiting and not self._stream.closed:
            self._stream.finish(self._trailers)

    def _due(self) -> None:
        self._timer = None
        if not self._blocked:
            self._send()
        else:
            self._waiting[0].interval_us = 0
        self._go_on()

    def _send(self) -> None:
        asked = self._waiting.popleft()
        reply = StreamingOutputCallResponse(payload=Payload(body=bytes(asked.size)))
        if not self._stream.send(reply.SerializeToString(), compress=asked.compressed.value):
            self._blocked = True
            self._stream.pause()

    def _writable(self) -> None:
        self._blocked = False
        self._stream.resume()
        self._go_on()
