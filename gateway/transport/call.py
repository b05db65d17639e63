"""What a service sees of a transport: calls, metadata, trailers. Never a socket.

Several transports may stand behind this page; a service cannot tell which.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.errors import Code


class Metadata:
    """The decoded header block of a call. Shared by all calls whose block had the same bytes: never change it.

    path: ":path" of the request, e.g. "/inference.GRPCInferenceService/ModelInfer".
    values: lower-case ASCII keys without pseudo-headers; repeated keys joined by ","; "-bin" keys keep their base64.
    timeout_s: grpc-timeout in seconds, or None.
    handler: what `Service.resolve(path)` gave; None: UNIMPLEMENTED.
    """

    __slots__ = ("handler", "path", "timeout_s", "values")

    def __init__(self, path: str, values: dict[str, str], timeout_s: float | None, handler: "Handler | None") -> None:
        self.path = path
        self.values = values
        self.timeout_s = timeout_s
        self.handler = handler


class Trailers:
    """Trailing metadata of a reply, made once and used for many replies (ASCII keys and values).

    `block` belongs to the transport: it caches its encoding there.
    """

    __slots__ = ("block", "pairs")

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = pairs
        self.block: bytes | None = None


NO_TRAILERS = Trailers()


class Call(Protocol):
    """One unary call whose request message has arrived.

    All times are `time.monotonic()` seconds. Exactly one of `reply` and `fail` is to be called, once, at any later
    time, on the loop's thread. After the caller left (`closed`) both send nothing, but one of them is still to be
    called: until then the call counts as work under way, so that callers who leave cannot have ever more of it. Only
    `on_cancel` replaces that: when it returns, nobody works on the call any more.
    """

    metadata: Metadata
    message: bytes
    arrived_s: float
    deadline_s: float
    """Infinity when the caller gave none."""
    closed: bool
    """Answered, cancelled, or the connection is gone."""
    on_cancel: Callable[[], None] | None
    """Called once when the caller leaves before an answer; ends the work on the call."""

    def reply(self, message: bytes, trailers: Trailers) -> None:
        """Sends the response message and grpc-status 0."""

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Sends a trailers-only error; `message` is percent-encoded by the transport."""


Handler = Callable[[Call], None]
"""Takes the call over. Must not block; an exception from it becomes INTERNAL."""


class Service(Protocol):
    """Finds the handler of a path; asked once per distinct header block."""

    def resolve(self, path: str) -> Handler | None: ...


class Server(Protocol):
    """A listening transport."""

    port: int

    @property
    def connections(self) -> int:
        """Open client connections."""

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, says goodbye, waits for calls in flight up to the grace, then closes everything."""
