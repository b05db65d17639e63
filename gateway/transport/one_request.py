"""Methods with one request and a stream of replies: the request is counted before the method begins."""

from collections.abc import Callable

from gateway.errors import Code
from gateway.transport.call import Stream

Serve = Callable[[Stream, bytes], None]
"""Takes the stream over together with its one request message."""


def one_request(serve: Serve) -> Callable[[Stream], None]:
    """What `Streaming.start` of such a method is: waits for the end of the request, then calls `serve`.

    None or several messages are UNIMPLEMENTED, the status of a request cardinality violation (grpc doc/statuscodes.md).
    """
    return lambda stream: _Request(stream, serve).listen()


class _Request:
    """The request half of one stream."""

    __slots__ = ("_message", "_serve", "_stream")

    def __init__(self, stream: Stream, serve: Serve) -> None:
        self._stream = stream
        self._serve = serve
        self._message: bytes | None = None

    def listen(self) -> None:
        stream = self._stream
        stream.on_message, stream.on_end, stream.on_cancel = self._on_message, self._on_end, _nothing

    def _on_message(self, message: bytes) -> None:
        if self._message is None:
            self._message = message
        else:
            self._stream.fail(Code.UNIMPLEMENTED, "the method takes exactly one request message; several were sent")

    def _on_end(self) -> None:
        if self._message is None:
            self._stream.fail(Code.UNIMPLEMENTED, "the method takes exactly one request message; none was sent")
        else:
            self._serve(self._stream, self._message)


def _nothing() -> None:
    """Nobody works on the stream yet."""
