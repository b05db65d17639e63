"""What a service sees of a transport: calls, streams, metadata, trailers. Never a socket.

Several transports may stand behind this page; a service cannot tell which.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import Code

PEER_ADDRESS: Final = "cutover-peer-address"
PEER_IDENTITY: Final = "cutover-peer-identity"
"""Metadata keys that the transport sets; what a client sends under these names is dropped."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as far as the transport can vouch for it. One per connection.

    address: "192.0.2.1:4711", "[2001:db8::1]:4711", "unix:" or "" when unknown; the client's own where a trusted proxy
        named it (PROXY protocol), without anything a client may claim by itself.
    identity: of a verified client certificate: its first URI SAN, else DNS SAN, else common name; "" without one.
    values: what of this every call of the connection carries in `Metadata.values`, by PEER_ADDRESS and PEER_IDENTITY.
    """

    address: str = ""
    identity: str = ""
    encrypted: bool = False
    values: dict[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        known = {PEER_ADDRESS: self.address, PEER_IDENTITY: self.identity}
        object.__setattr__(self, "values", {key: value for key, value in known.items() if value})


UNKNOWN_PEER: Final = Peer()


class Metadata:
    """The decoded header block of a call. Shared by all calls whose block had the same bytes: never change it.

    path: ":path" of the request, e.g. "/inference.GRPCInferenceService/ModelInfer".
    values: lower-case ASCII keys without pseudo-headers; repeated keys joined by ","; "-bin" keys keep their base64,
        see `binary`. PEER_ADDRESS and PEER_IDENTITY are the transport's word.
    timeout_s: grpc-timeout in seconds, or None.
    handler: what `Service.resolve(path)` gave; None: UNIMPLEMENTED.
    """

    __slots__ = ("handler", "path", "timeout_s", "values")

    def __init__(
        self, path: str, values: dict[str, str], timeout_s: float | None, handler: "Handler | Streaming | None"
    ) -> None:
        self.path = path
        self.values = values
        self.timeout_s = timeout_s
        self.handler = handler

    def binary(self, key: str) -> list[bytes]:
        """The values of a "-bin" key. Raises ValueError for what is not base64 (padding is optional in gRPC)."""
        text = self.values.get(key)
        return [] if text is None else [_unbase64(part) for part in text.split(",")]


def _unbase64(text: str) -> bytes:
    bare = text.strip().rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"binary metadata is not base64: {error}") from None


class Trailers:
    """Metadata of a reply, made once and used for many replies. A value is ASCII, or bytes under a "-bin" key.

    `block` belongs to the transport: it caches its encoding there.
    """

    __slots__ = ("block", "pairs")

    def __init__(self, *pairs: tuple[str, str | bytes]) -> None:
        self.pairs = pairs
        self.block: bytes | None = None


NO_TRAILERS = Trailers()


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """What few replies need.

    headers: metadata sent before the message.
    compress: compress the message, if the caller accepts gzip or deflate.
    """

    headers: Trailers = NO_TRAILERS
    compress: bool = False


OnCancel = Callable[[], bool | None]
"""Hears that the caller of a call or stream has left. True: work on it goes on until it is answered or ended. Anything
else: when it returns, nobody works on it any more, and nobody has to answer it."""


class Call(Protocol):
    """One unary call whose request message has arrived.

    All times are `time.monotonic()` seconds. Exactly one of `reply` and `fail` is to be called, once, at any later
    time, on the loop's thread. After the caller left (`closed`) both send nothing, but one of them is still to be
    called: until then the call counts as work under way, so that callers who leave cannot have ever more of it. Only
    `on_cancel` may replace that, see there.
    """

    metadata: Metadata
    message: bytes
    arrived_s: float
    deadline_s: float
    """Infinity when the caller gave none."""
    on_cancel: OnCancel | None
    """Called once when the caller leaves before an answer."""

    @property
    def closed(self) -> bool:
        """Answered, cancelled, or the connection is gone."""

    @property
    def peer(self) -> Peer:
        """Who calls."""

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        """Sends the response message and grpc-status 0."""

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Sends a trailers-only error; `message` is percent-encoded by the transport."""


class Stream(Protocol):
    """One streaming call: request messages come one by one, replies go out at any time.

    `Streaming.start` gets it when the headers have arrived, before any message, and sets the callbacks. All of them are
    called on the loop's thread, `on_message` and `on_end` never from within `start`, `send`, `pause` or `resume`.
    Exactly one of `finish` and `fail` is to be called, once, as with a Call; after it, or once `closed`, no callback
    comes any more, and `send` does nothing. When the caller leaves or the deadline passes, `on_cancel` is called.
    """

    metadata: Metadata
    arrived_s: float
    deadline_s: float
    """Infinity when the caller gave none. The transport cancels the stream then, with DEADLINE_EXCEEDED."""
    closed: bool
    """Finished, failed, cancelled, or the connection is gone."""
    on_message: Callable[[bytes], None]
    """One whole request message, decompressed."""
    on_end: Callable[[], None]
    """The caller sends no more (half-closed); replies may still go out."""
    on_cancel: OnCancel | None
    """Called once when the caller leaves before the end."""
    on_writable: Callable[[], None] | None
    """The peer has taken what made `send` return False; not called before that."""

    @property
    def peer(self) -> Peer:
        """Who calls."""

    def send_headers(self, headers: Trailers = NO_TRAILERS) -> None:
        """Sends the response headers now; without it they go with the first message. Once, before any `send`."""

    def send(self, message: bytes, *, compress: bool = False) -> bool:
        """Sends one response message. False: much waits for the peer already; `on_writable` says when it has left.

        Who goes on sending regardless is failed with RESOURCE_EXHAUSTED at the connection's bound.
        """

    def pause(self) -> None:
        """No further `on_message` and `on_end` until `resume`: the peer's flow-control window closes."""

    def resume(self) -> None:
        """Messages come again, those that waited first."""

    def hold(self, size_bytes: int) -> None:
        """The service keeps so many bytes more on behalf of the caller, or fewer, also after the end of the stream.

        They count towards what all callers together may make the server hold.
        """

    def finish(self, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with grpc-status 0, after what was sent."""

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with an error, after what was sent; `message` is percent-encoded by the transport."""


Handler = Callable[[Call], None]
"""Takes the call over. Must not block; an exception from it becomes INTERNAL."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method whose request or reply is a stream.

    start: takes the stream over and sets its callbacks. Must not block; an exception from it, or from a callback,
        becomes INTERNAL.
    may_idle: no limit on how long nothing is sent either way (watches).
    """

    start: Callable[[Stream], None]
    may_idle: bool = False


class Service(Protocol):
    """Finds the handler of a path; asked once per distinct header block."""

    def resolve(self, path: str) -> Handler | Streaming | None: ...


class Server(Protocol):
    """A listening transport."""

    port: int

    @property
    def connections(self) -> int:
        """Open client connections."""

    @property
    def held_bytes(self) -> int:
        """What requests and replies on their way take in memory, as far as the transport counts it."""

    def take_refusals(self) -> dict[str, int]:
        """How often each limit struck since the last call, by reason."""

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, says goodbye, waits for calls in flight up to the grace, then closes everything."""
