"""How much a peer may ask for, and how long it may take. Every number bounds something a peer could otherwise grow.

`Counters` says how often they struck. The defaults against abuse are no laxer than what nginx does about the same, or
what Envoy advises for the edge; tests/conformance/README.md has the table, attack by attack. Laxer on purpose, because
tensors are large: messages and unread replies, for which `max_buffered_bytes` is the bound of all together; and
connections, of which a process serves more here than one of nginx's workers by default.
"""

from dataclasses import dataclass, fields

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

    The bound on memory. All connections together hold at most `max_buffered_bytes` of what a peer can pile up (see
    `memory`), and for each of `max_connections` besides

    - what arrived since the last sweep, a second ago: incomplete frames of `max_frame_bytes`, metadata of streams;
    - what one turn of the loop produced before the socket was known to be full: a reply of up to 64 KiB for each of
      `max_streams`, or about 256 KiB of those that waited;
    - the HPACK table (4 KiB) and header blocks that are remembered, about 200 KiB if a peer wants it.

    One connection alone holds at most `max_streams * stream_window_bytes` of half-arrived requests, or two and a half
    times that on streams whose service does not take its messages, plus `max_upload_bytes` (or one larger message) of
    requests that do not fit their stream's initial window, `max_streams * max_header_list_bytes` of metadata, and
    `max_backlog_bytes` (or one larger reply) of replies it does not read. Small calls that are under way are bounded by
    whoever admits them.
    """

    max_connections: int = 4096
    """Open connections of the listener, or fewer when the process may not open so many files; more are cut."""

    max_message_bytes: int = 2**31 - 1
    """Largest request message; a longer one is RESOURCE_EXHAUSTED as soon as its length is known."""
    max_decompressed_bytes: int = 4 << 20
    """Largest request message after decompression. Some kilobytes may ask for a thousand times as much (a bomb), and
    the loop stands still meanwhile: hence gRPC's customary limit of 4 MiB."""
    compress_above_bytes: int = 0
    """Replies at least this large are compressed for callers that accept gzip or deflate; 0: only where a service asks.

    It takes time of the loop, so it is for callers far away: a megabyte of random FP32 takes 27 ms and loses 7 %.
    """
    max_streams: int = 128
    """Concurrent calls per connection (SETTINGS_MAX_CONCURRENT_STREAMS); more are REFUSED_STREAM.

    A call that its caller reset counts until nobody works on it any more. nginx's default; two full batches of 64. It
    multiplies what a peer may hold, and costs honest clients nothing: all gRPC implementations keep calls above it in
    a queue of their own until one ends, and who wants more in flight opens more connections.
    """
    max_header_list_bytes: int = 16_384
    """Decoded header list, 32 bytes of overhead per field (RFC 9113 section 6.5.2)."""
    max_header_fields: int = 100
    max_header_block_bytes: int = 65_536
    """Encoded header block, HEADERS and CONTINUATION together."""
    max_continuations: int = 8
    """CONTINUATION frames per header block (CVE-2024-27316)."""
    max_settings: int = 32
    """Entries of one SETTINGS frame."""
    stream_window_bytes: int = 65_536
    connection_window_bytes: int = 16 << 20
    max_frame_bytes: int = 65_536
    max_upload_bytes: int = 64 << 20
    """Requests above the stream window that are received side by side; the others wait with their window used up."""
    max_backlog_bytes: int = 128 << 20
    """Replies that wait for a peer that does not read; what comes on top fails with RESOURCE_EXHAUSTED."""
    max_buffered_bytes: int = 2560 << 20
    """What all connections of the listener together may hold. 7/8 of the default is room for one message of 2^31 bytes.

    Beyond 7/8 of it those that hold most are closed, until it is 3/4; what does not fit is RESOURCE_EXHAUSTED.
    """
    max_control_replies: int = 1000
    """Answers to PING, SETTINGS and refused streams waiting for a peer that does not read."""
    reset_burst: int = 200
    """Streams a peer may reset early, or make the server reset, before it is told to calm down (CVE-2023-44487).

    More than `max_streams`, for a caller may give up all it has in flight at once. As opened streams give some back,
    who resets all it opens gets 400: nginx takes about as many in a turn of its loop, Envoy 250.
    """
    resets_per_s: float = 33.0
    """How fast `reset_burst` grows back; every two streams opened give back one more."""
    early_reset_s: float = 1.0
    """A caller that leaves later than this, or after its deadline, is no abuser."""
    chatter_burst: int = 1000
    """Frames that bring no request on, such as PING, SETTINGS, WINDOW_UPDATE, empty DATA; see `Chatter`."""
    chatter_per_s: float = 100.0
    """How fast `chatter_burst` grows back; opened streams and sent DATA frames give back more."""
    handshake_timeout_s: float = 10.0
    """Time for the connection preface and the first SETTINGS."""
    header_timeout_s: float = 10.0
    """Time for a header block, and for any frame but DATA, to arrive whole."""
    upload_timeout_s: float = 30.0
    """How long a request may come more slowly than `min_bytes_per_s`, all in all; 0: for ever."""
    write_timeout_s: float = 30.0
    """How long a peer may take replies that wait more slowly than `min_bytes_per_s`, all in all; 0: for ever."""
    min_bytes_per_s: int = 500
    """Slower is stalled, however steadily it trickles; faster makes up for it."""
    stream_idle_timeout_s: float = 300.0
    """A streaming call on which nothing goes either way for so long is UNAVAILABLE; 0: never.

    Envoy's default. Not for methods that say `may_idle`.
    """
    idle_timeout_s: float = 3600.0
    """A connection without calls for so long is closed, gracefully; 0: never.

    Envoy's default. grpc-core's is never, which lets a client that leaks channels fill `max_connections` with
    connections nobody uses; one that comes back after an hour opens a new one without an error.
    """
    keepalive_time_s: float = 7200.0
    """After so long without a byte from the peer it is sent a PING (gRFC A9, and its default); 0: never."""
    keepalive_timeout_s: float = 20.0
    """If no byte comes for so long after that PING, the connection is closed and its calls are cancelled."""
    min_ping_interval_s: float = 300.0
    """PINGs of clients that follow each other faster are strikes (gRFC A8, and its default); 0: any are welcome."""
    min_idle_ping_interval_s: float = 7200.0
    """The same while no call is under way: as often as TCP keepalive may ask (RFC 1122 section 4.2.3.6)."""
    max_ping_strikes: int = 2
    """One more, and the connection is closed with "too_many_pings". Whenever we send HEADERS or DATA, they are void."""
    max_age_s: float = 0.0
    """A connection older than this, give or take a tenth, is closed gracefully, so that load balancers may move it.

    0: never, grpc-core's default (gRFC A9).
    """
    max_age_grace_s: float = 0.0
    """How long calls may take to end after that; then they are cancelled. 0: for ever, grpc-core's default."""
    linger_s: float = 1.0
    """Time a peer has to read the last GOAWAY before its connection is cut."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field that RFC 9113 does not allow."""
        self._check("stream_window_bytes", DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
        self._check("connection_window_bytes", DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES)
        self._check("max_frame_bytes", MIN_FRAME_BYTES, MAX_FRAME_BYTES)
        self._check("max_message_bytes", 1, 2**32 - 1)
        self._check("max_decompressed_bytes", 1, 2**32 - 1)
        self._check("max_streams", 1, 2**31 - 1)
        self._check("max_connections", 1, 2**31 - 1)
        self._check("min_bytes_per_s", 1, 2**31 - 1)
        if self.keepalive_time_s and not self.keepalive_timeout_s:
            raise ValueError("keepalive_timeout_s must be more than 0 while keepalive_time_s is")

    def compresses(self, size: int) -> bool:
        """Whether a reply of that size is compressed without being asked."""
        return 0 < self.compress_above_bytes <= size

    def sweep_every_s(self, most_s: float) -> float:
        """How often to look for what takes too long: often enough for the shortest timeout."""
        timeouts = (
            self.handshake_timeout_s,
            self.header_timeout_s,
            self.upload_timeout_s,
            self.write_timeout_s,
            self.idle_timeout_s,
            self.stream_idle_timeout_s,
            self.keepalive_time_s,
            self.keepalive_timeout_s,
            self.max_age_s,
            self.max_age_grace_s,
        )
        return min(most_s, *(timeout_s / 4 for timeout_s in timeouts if timeout_s > 0))

    def _check(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, must be between {low} and {high}")


@dataclass(slots=True)
class Counters:
    """How often each limit of a listener struck: the reason, in one word, for what was refused."""

    connections: int = 0
    """Connections above `max_connections`."""
    files: int = 0
    """Pauses in accepting connections because no more files could be opened."""
    handshake: int = 0
    """Connections that did not introduce themselves in time, or only took the place of others."""
    proxy_header: int = 0
    """Connections without a valid PROXY header where there has to be one."""
    tls: int = 0
    """TLS handshakes that failed: no or a wrong client certificate, no h2, too old a version, no TLS at all."""
    streams: int = 0
    """Streams above `max_streams`."""
    headers: int = 0
    """Header lists, or encoded blocks, that were too large or came in too many pieces."""
    header_timeout: int = 0
    """Connections whose header block or frame did not end in time."""
    message_size: int = 0
    """Messages above `max_message_bytes`."""
    decompressed_size: int = 0
    """Compressed messages above `max_decompressed_bytes`."""
    upload_timeout: int = 0
    """Requests that did not arrive in time."""
    resets: int = 0
    """Connections with too many resets."""
    chatter: int = 0
    """Connections with too many frames that bring no request on."""
    unread: int = 0
    """Connections that asked for more control frames than they read."""
    memory: int = 0
    """Requests and replies beyond `max_buffered_bytes`, and connections closed because they held most of it."""
    backlog: int = 0
    """Replies above `max_backlog_bytes`."""
    write_timeout: int = 0
    """Streams and connections that did not take their replies in time."""
    stream_idle: int = 0
    """Streams on which nothing went either way for too long."""
    idle: int = 0
    """Connections closed because they had no calls."""
    age: int = 0
    """Connections closed because they were old."""
    age_grace: int = 0
    """Those of them whose calls did not end in time."""
    keepalive: int = 0
    """Connections whose peer did not answer a PING."""
    pings: int = 0
    """Connections whose peer sent PINGs too often."""

    def count(self, reason: str) -> None:
        """One more."""
        setattr(self, reason, getattr(self, reason) + 1)

    def take(self) -> dict[str, int]:
        """What struck since the last time, by reason."""
        taken = {field.name: count for field in fields(self) if (count := getattr(self, field.name))}
        for name in taken:
            setattr(self, name, 0)
        return taken
