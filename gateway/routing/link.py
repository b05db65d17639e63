"""Messages between the control process and a proxy, over a Unix socket in a private directory.

Frame: u32 little-endian length, then one msgpack-encoded message. The proxy connects and says Hello; the control
process answers Configure and Publish, then Update whenever something changed; the proxy answers each of the latter two
with Applied once every request admitted from then on sees that snapshot.

What a client asks that one proxy cannot answer is an Errand: the control process answers each with ErrandDone.
"""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from gateway.routing.outcome import Report
from gateway.routing.snapshot import Snapshot
from gateway.routing.update import Update

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 256 << 20


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of a proxy."""

    index: int
    pid: int


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """The proxy accepts connections."""

    port: int


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """Every request admitted from now on sees this epoch or a later one."""

    epoch: int


class ProxyFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The proxy cannot go on; one line."""

    error: str


class Hung(msgspec.Struct, frozen=True, tag="hung"):
    """The worker at this address has taken a batch and not answered for `worker_timeout_ms`: it is to be replaced."""

    address: str


class Errand(msgspec.Struct, frozen=True, tag="errand"):
    """A call that only the control process can answer."""

    number: int
    """Of this proxy's errands; comes back with the answer."""
    kind: str
    """Which of `gateway.controlplane.errands`: the method's name."""
    message: bytes
    """The request, as the client sent it."""
    peer: str = ""
    """Who calls, for the log: the identity in its certificate, else its address."""


class PeerLimits(msgspec.Struct, frozen=True):
    """What clients may ask of a proxy, and how long they may take; the transport's `Limits` explain each by its name.

    A time of 0 is no limit, except for `handshake_timeout_s`, `header_timeout_s` and `keepalive_timeout_s`.
    """

    max_buffered_bytes: int = 2560 << 20
    max_upload_bytes: int = 64 << 20
    max_backlog_bytes: int = 128 << 20
    max_decompressed_bytes: int = 4 << 20
    compress_above_bytes: int = 0
    max_header_fields: int = 100
    max_continuations: int = 8
    max_settings: int = 32
    max_control_replies: int = 1000
    reset_burst: int = 200
    resets_per_s: float = 33.0
    chatter_burst: int = 1000
    chatter_per_s: float = 100.0
    min_bytes_per_s: int = 500
    handshake_timeout_s: float = 10.0
    header_timeout_s: float = 10.0
    stream_idle_timeout_s: float = 300.0
    keepalive_time_s: float = 7200.0
    keepalive_timeout_s: float = 20.0
    min_ping_interval_s: float = 300.0
    min_idle_ping_interval_s: float = 7200.0
    max_ping_strikes: int = 2
    max_age_s: float = 0.0
    max_age_grace_s: float = 0.0


class Entrance(msgspec.Struct, frozen=True):
    """How clients come in on the TCP port, and which proxies in front of the gateway are believed."""

    transport: Literal["h2", "grpcio"] = "h2"
    """Who serves them: our own transport, or grpcio's server."""
    certificate: str = ""
    """Path; "": cleartext."""
    key: str = ""
    client_ca: str = ""
    """Path; "": clients need no certificate."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    reload_s: float = 10.0
    """How often to look whether these files have changed."""
    proxy_protocol: bool = False
    """Each connection begins with a PROXY header."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses, networks and "unix:"."""


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Settings of a proxy; sent once, before the first Publish."""

    host: str
    port: int
    max_message_bytes: int
    max_streams: int
    """Concurrent calls per connection (SETTINGS_MAX_CONCURRENT_STREAMS)."""
    max_in_flight: int
    """Requests in this proxy that have no answer yet."""
    max_queue: int
    """Requests waiting in one lane."""
    max_shadow_queue: int
    """Copies waiting in one shadow lane."""
    worker_wait_ms: int
    """How long a request waits for a worker to come back before UNAVAILABLE."""
    server_name: str
    server_version: str
    reflection: bool = True
    """Clients may ask for the schema."""
    max_connections: int = 4096
    """Open client connections of one proxy."""
    max_header_bytes: int = 16_384
    """Metadata of one call, 32 bytes of overhead per key."""
    upload_timeout_ms: int = 30_000
    """How long a request may not make progress while it arrives; 0: for ever."""
    write_timeout_ms: int = 30_000
    """How long a client may not read its replies; 0: for ever."""
    idle_timeout_ms: int = 3_600_000
    """How long a connection without calls stays; 0: for ever."""
    worker_timeout_ms: int = 60_000
    """How long a worker may take for one batch; 0: for ever."""
    shared_tensors_above_bytes: int = 128 << 10
    """Batches and answers that are larger lie in memory shared with the worker; 0: none."""
    peers: PeerLimits = PeerLimits()
    entrance: Entrance = Entrance()
    extensions: tuple[str, ...] = ("binary_tensor_data",)
    """Of the protocol that are served (Triton's names)."""


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """The snapshot to serve from now on; sent once, before the first Update."""

    snapshot: Snapshot


class ErrandDone(msgspec.Struct, frozen=True, tag="errand-done"):
    """The answer to an errand: the response message, or a status that is not OK."""

    number: int
    message: bytes = b""
    code: int = 0
    text: str = ""
    details: bytes = b""
    """google.rpc.Status."""


class Survey(msgspec.Struct, frozen=True, tag="survey"):
    """Report now, and say that it answers this: what was sent before has been taken in, what was counted is told."""

    number: int


class Tracing(msgspec.Struct, frozen=True, tag="tracing"):
    """Which requests are traced from now on: one of every so many; 0: none."""

    rate: int = 0
    models: dict[str, int] = {}
    """The rates of models that have one of their own."""


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    """How long requests may be admitted under what the proxy has applied; a later one takes the place of it.

    `until_s` is a time and not a span: however long the message waits to be read, the proxy stops when it was said
    that it would.
    """

    until_s: float | None = None
    """On the machine's monotonic clock; None: for ever."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Stop accepting, finish what is in flight within the grace, report once more, exit 0."""

    grace_ms: int


FromProxy = Hello | Listening | Applied | ProxyFailed | Hung | Errand | Report
FromControl = Configure | Publish | Update | ErrandDone | Survey | Tracing | Lease | Drain

_encoder = msgspec.msgpack.Encoder()
from_proxy = msgspec.msgpack.Decoder(FromProxy)
from_control = msgspec.msgpack.Decoder(FromControl)


def encode(message: FromProxy | FromControl) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a byte stream into message bodies."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each complete body. Raises ValueError when a length exceeds MAX_FRAME_BYTES."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._buffer)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"link frame of {size} bytes")
            if len(self._buffer) < LENGTH.size + size:
                return
            body = bytes(self._buffer[LENGTH.size : LENGTH.size + size])
            del self._buffer[: LENGTH.size + size]
            yield body
