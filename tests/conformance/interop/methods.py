"""The methods of grpc.testing.TestService (grpc/grpc doc/interop-test-descriptions.md), on the contract of `call.py`.

Of the features a server may have there are: EmptyCall, UnaryCall, StreamingInputCall, StreamingOutputCall,
FullDuplexCall, HalfDuplexCall, CompressedResponse, CompressedRequest, Echo Status, Echo Metadata, interval_us.
"""

from collections.abc import Callable

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call, Handler, Metadata, ReplyOptions, Stream, Streaming, Trailers
from tests.conformance.interop.answers import Answers
from tests.conformance.interop.interop_pb2 import (
    COMPRESSABLE,
    Empty,
    Payload,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
)

SERVICE = "/grpc.testing.TestService/"
COUNTS = "/cutover.testing.Counts/"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

WasCompressed = Callable[[bytes], bool | None]
"""Whether the message just handed over had come compressed; None: the transport does not tell."""
Refused = tuple[Code, str]


class TestService:
    """All methods, and beside them `/cutover.testing.Counts/`: Open and Cancelled streams, as decimal text."""

    def __init__(self, was_compressed: WasCompressed) -> None:
        self._was_compressed = was_compressed
        self._streams: list[Stream] = []
        self._cancelled = 0
        self._methods: dict[str, Handler | Streaming] = {
            SERVICE + "EmptyCall": self._empty,
            SERVICE + "UnaryCall": self._unary,
            SERVICE + "StreamingInputCall": Streaming(self._streaming_input),
            SERVICE + "StreamingOutputCall": Streaming(self._streaming_output),
            SERVICE + "FullDuplexCall": Streaming(self._full_duplex),
            SERVICE + "HalfDuplexCall": Streaming(self._half_duplex),
            COUNTS + "Open": lambda call: call.reply(b"%d" % self._open(), NO_TRAILERS),
            COUNTS + "Cancelled": lambda call: call.reply(b"%d" % self._cancelled, NO_TRAILERS),
        }

    def resolve(self, path: str) -> Handler | Streaming | None:
        """Finds a method."""
        return self._methods.get(path)

    def _empty(self, call: Call) -> None:
        Empty.FromString(call.message)
        call.reply(b"", trailing(call.metadata), ReplyOptions(initial(call.metadata)))

    def _unary(self, call: Call) -> None:
        request = SimpleRequest.FromString(call.message)
        trailers = trailing(call.metadata)
        if refused := self._unexpected(request, call.message) or echoed(request) or unknown_type(request):
            call.fail(*refused, trailers)
            return
        reply = SimpleResponse(payload=Payload(body=bytes(request.response_size)))
        options = ReplyOptions(initial(call.metadata), request.response_compressed.value)
        call.reply(reply.SerializeToString(), trailers, options)

    def _streaming_input(self, stream: Stream) -> None:
        trailers = self._begin(stream, lambda: None)
        total_bytes = 0

        def on_message(message: bytes) -> None:
            nonlocal total_bytes
            request = StreamingInputCallRequest.FromString(message)
            total_bytes += len(request.payload.body)
            if refused := self._unexpected(request, message):
                stream.fail(*refused, trailers)

        def on_end() -> None:
            stream.send(StreamingInputCallResponse(aggregated_payload_size=total_bytes).SerializeToString())
            stream.finish(trailers)

        stream.on_message, stream.on_end = on_message, on_end

    def _streaming_output(self, stream: Stream) -> None:
        asked: list[StreamingOutputCallRequest] = []
        answers = self._answers(stream, asked.append)

        def on_end() -> None:
            if len(asked) == 1:
                answers.add(*asked[0].response_parameters)
                answers.end()
            else:  # grpc doc/statuscodes.md: request cardinality violation
                stream.fail(Code.UNIMPLEMENTED, f"one request message expected, {len(asked)} came")

        stream.on_end = on_end

    def _full_duplex(self, stream: Stream) -> None:
        answers = self._answers(stream, lambda request: answers.add(*request.response_parameters))
        stream.on_end = answers.end

    def _half_duplex(self, stream: Stream) -> None:
        asked: list[StreamingOutputCallRequest] = []
        answers = self._answers(stream, asked.append)

        def on_end() -> None:
            for request in asked:
                answers.add(*request.response_parameters)
            answers.end()

        stream.on_end = on_end

    def _answers(self, stream: Stream, take: Callable[[StreamingOutputCallRequest], None]) -> Answers:
        """Hands every request to `take`, until one says which status to end with."""
        trailers = self._begin(stream, lambda: answers.stop())  # noqa: PLW0108 - it is made after this
        answers = Answers(stream, trailers)

        def on_message(message: bytes) -> None:
            request = StreamingOutputCallRequest.FromString(message)
            if refused := echoed(request) or unknown_type(request):
                answers.stop()
                stream.fail(*refused, trailers)
            else:
                take(request)

        stream.on_message = on_message
        return answers

    def _begin(self, stream: Stream, stop: Callable[[], None]) -> Trailers:
        def on_cancel() -> None:
            self._cancelled += 1
            stop()

        self._streams.append(stream)
        stream.on_cancel = on_cancel
        if ECHO_INITIAL in stream.metadata.values:
            stream.send_headers(initial(stream.metadata))
        return trailing(stream.metadata)

    def _open(self) -> int:
        self._streams = [stream for stream in self._streams if not stream.closed]
        return len(self._streams)

    def _unexpected(self, request: SimpleRequest | StreamingInputCallRequest, message: bytes) -> Refused | None:
        came, expected = self._was_compressed(message), request.expect_compressed.value
        if not request.HasField("expect_compressed") or came is None or came == expected:
            return None
        return Code.INVALID_ARGUMENT, f"expected {'a' if expected else 'no'} compressed message"


def initial(metadata: Metadata) -> Trailers:
    """What Echo Metadata sends first."""
    value = metadata.values.get(ECHO_INITIAL)
    return NO_TRAILERS if value is None else Trailers((ECHO_INITIAL, value))


def trailing(metadata: Metadata) -> Trailers:
    """What Echo Metadata sends last."""
    return Trailers(*[(ECHO_TRAILING, value) for value in metadata.binary(ECHO_TRAILING)])


def echoed(request: SimpleRequest | StreamingOutputCallRequest) -> Refused | None:
    """The status that the caller wants to end with; OK is what it gets anyway."""
    status = request.response_status
    return (Code(status.code), status.message) if status.code else None


def unknown_type(request: SimpleRequest | StreamingOutputCallRequest) -> Refused | None:
    """There is one type of payload."""
    if request.response_type == COMPRESSABLE:
        return None
    return Code.INVALID_ARGUMENT, f"response_type {request.response_type} is not supported"
