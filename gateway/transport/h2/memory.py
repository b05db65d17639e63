"""What all connections of a listener hold together, so that ten thousand peers may not do what one may not.

Counted is what a peer can pile up by being slow: messages that arrive or wait for their service, messages of calls that
were too large for a stream's window until those are answered, replies that wait for windows, what a full socket has not
taken, metadata of streams and incomplete frames that a sweep finds. Small requests that come in one piece, and their
replies, are never asked about.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Trailers
from gateway.transport.h2.errors import Refusal

HIGH_SHARE: Final = 7 / 8
"""Of the budget: beyond it, those who hold most are sent away, before anything has to be refused."""
LOW_SHARE: Final = 3 / 4
"""Until so little is held."""
FIELD_OVERHEAD_BYTES: Final = 160
"""What a metadata field takes besides its text: two strings and a place in a dictionary."""
LATER: Final = Trailers(("grpc-retry-pushback-ms", "1000"))
"""Clients with a retry policy wait so long (gRFC A6)."""
NO_MEMORY: Final = "the memory for requests and replies on their way is used up; try again later"


class Memory:
    """The budget of a listener."""

    __slots__ = ("_on_pressure", "_pressed", "held_bytes", "high_bytes", "low_bytes", "max_bytes")

    def __init__(self, max_bytes: int, on_pressure: Callable[[], object] | None = None) -> None:
        """`on_pressure` is called when much is held, and not again until `relieved`."""
        self.held_bytes = 0
        self.max_bytes = max_bytes
        self.low_bytes = int(max_bytes * LOW_SHARE)
        self.high_bytes = int(max_bytes * HIGH_SHARE)
        self._on_pressure = on_pressure
        self._pressed = False

    def press(self) -> None:
        """More than `high_bytes` are held."""
        if not self._pressed and self._on_pressure is not None:
            self._pressed = True
            self._on_pressure()

    def relieved(self) -> None:
        """Those who held most were sent away."""
        self._pressed = False


class Account:
    """What one connection holds."""

    __slots__ = ("_memory", "held_bytes")

    def __init__(self, memory: Memory) -> None:
        self.held_bytes = 0
        self._memory = memory

    def change(self, size: int) -> None:
        """So many bytes more, or less. Counts what is there already; to ask before, use `check`."""
        memory = self._memory
        self.held_bytes += size
        held_bytes = memory.held_bytes = memory.held_bytes + size
        if held_bytes > memory.high_bytes:
            memory.press()

    def has_room(self, size: int) -> bool:
        """Whether the listener may hold so much more."""
        return self._memory.held_bytes + size <= self._memory.max_bytes

    def check(self, size: int) -> None:
        """Raises Refusal RESOURCE_EXHAUSTED when the listener may not hold so much more."""
        memory = self._memory
        if memory.held_bytes + size > memory.max_bytes:
            raise Refusal(Code.RESOURCE_EXHAUSTED, NO_MEMORY, trailers=LATER, reason="memory")


def metadata_bytes(values: dict[str, str]) -> int:
    """What a call's metadata takes, roughly."""
    return sum(map(len, values)) + sum(map(len, values.values())) + FIELD_OVERHEAD_BYTES * len(values)
