"""Who is served next: whoever has used the least of the worker's time. No socket, no clock.

Every proxy gets the same share of the time, however large its batches are. Who was idle begins again where those at
work are: nobody saves up a share.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar


class Served(Protocol):
    """Somebody who has work for the worker now and then."""

    queued: bool
    """Waits for its turn; kept here so that asking is cheap."""
    used_s: float
    """Of the worker's time, on the scale of `Turns`: idle time counts as used. Whoever serves it adds to this."""


S = TypeVar("S", bound=Served)


class Turns(Generic[S]):
    """Those that wait. Equal ones come in the order in which they entered."""

    __slots__ = ("_entered", "_least_s", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[float, int, S]] = []
        """A heap; empty when nobody waits."""
        self._entered = count()
        self._least_s = 0.0
        """What the last one had used when its turn came; it never falls."""

    def enter(self, served: S) -> None:
        """It has work. Nothing happens when it waits already."""
        if not served.queued:
            served.queued = True
            if served.used_s < self._least_s:
                served.used_s = self._least_s
            heappush(self.waiting, (served.used_s, next(self._entered), served))

    def take(self) -> S:
        """Whose turn it is; it waits no longer. Raises IndexError when nobody waits."""
        self._least_s, _, served = heappop(self.waiting)
        served.queued = False
        return served
