"""How much a peer may ask for. Every number bounds something a peer could otherwise grow."""

from dataclasses import dataclass

DEFAULT_WINDOW_BYTES = 65_535
"""Initial flow-control window of streams and connections (RFC 9113 section 6.9.2)."""
MAX_WINDOW_BYTES = 2**31 - 1
"""Largest flow-control window (RFC 9113 section 6.9.1)."""
MIN_FRAME_BYTES = 16_384
"""Frame payload every peer accepts (RFC 9113 section 4.2)."""
HEADER_TABLE_BYTES = 4096
"""Size of HPACK's dynamic table unless SETTINGS say otherwise (RFC 9113 section 6.5.2)."""
MAX_FRAME_BYTES = 2**24 - 1
"""Largest frame payload there is (RFC 9113 section 4.2)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener; the same for each of its connections.

    A connection holds at most `max_streams * stream_window_bytes` of half-arrived requests, plus `max_upload_bytes` (or
    one larger message) of requests that do not fit their stream's initial window.
    """

    max_message_bytes: int = 2**31 - 1
    """Largest request message; a longer one is RESOURCE_EXHAUSTED as soon as its length is known."""
    max_streams: int = 1024
    """Concurrent calls per connection (SETTINGS_MAX_CONCURRENT_STREAMS); more are REFUSED_STREAM."""
    max_header_list_bytes: int = 16_384
    """Decoded header list, 32 bytes of overhead per field (RFC 9113 section 6.5.2)."""
    max_header_fields: int = 128
    max_header_block_bytes: int = 65_536
    """Encoded header block, HEADERS and CONTINUATION together."""
    max_continuations: int = 8
    """CONTINUATION frames per header block."""
    stream_window_bytes: int = 65_536
    connection_window_bytes: int = 16 << 20
    max_frame_bytes: int = 65_536
    max_upload_bytes: int = 64 << 20
    """Requests above the stream window that are received side by side; the others wait with their window used up."""
    max_control_replies: int = 1000
    """Answers to PING, SETTINGS and refused streams waiting for a peer that does not read."""
    reset_burst: int = 1000
    """Streams a peer may reset, or make the server reset, before it is told to calm down."""
    resets_per_s: float = 33.0
    """How fast `reset_burst` grows back; every two streams opened give back one more."""
    handshake_timeout_s: float = 10.0
    """Time for the connection preface."""
    linger_s: float = 1.0
    """Time a peer has to read the last GOAWAY before its connection is cut."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field that RFC 9113 does not allow."""
        self._check("stream_window_bytes", DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
        self._check("connection_window_bytes", DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
        self._check("max_frame_bytes", MIN_FRAME_BYTES, MAX_FRAME_BYTES)
        self._check("max_message_bytes", 1, 2**32 - 1)
        self._check("max_streams", 1, 2**31 - 1)

    def _check(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, must be between {low} and {high}")
