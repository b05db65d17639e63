"""What can be wrong with what a peer sent, by how far it reaches: a call, its stream, the whole connection."""

from enum import IntEnum

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Trailers


class ErrorCode(IntEnum):
    """HTTP/2 error codes (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """A connection error (RFC 9113 section 5.4.1): GOAWAY with this code, then the connection closes.

    `reason`: the field of `Counters` when a limit struck.
    """

    def __init__(self, code: ErrorCode, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Flood(ConnectionFault):
    """A peer went beyond a limit that only abuse reaches: ENHANCE_YOUR_CALM."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, message, reason=reason)


class StreamFault(Exception):
    """A stream error (RFC 9113 section 5.4.2): RST_STREAM with this code; the connection goes on."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Refusal(Exception):
    """A well-formed stream whose call cannot be served: answered with an HTTP and a gRPC status.

    `reason`: the field of `Counters` when a limit struck.
    """

    def __init__(
        self, code: Code, message: str, http_status: int = 200, trailers: Trailers = NO_TRAILERS, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.trailers = trailers
        self.reason = reason
