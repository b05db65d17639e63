"""How long what waits will wait: what one row costs while the workers are busy, learned from batches. Pure."""

from collections.abc import Iterable
from typing import Final

from gateway.dataplane.cost import Cost

LEARN: Final = 0.1
"""How much the last batch that left others behind counts for the size of such batches."""
PUSHBACKS_MS: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""What a refused client is told to wait; few values, as each refusal is encoded once and kept."""


class Backlog:
    """The measure of one lane's queue.

    `row_s`: seconds that each waiting row makes those behind it wait, all workers of the lane together; 0: unknown.
    """

    __slots__ = ("_full", "_most", "_workers", "cost", "row_s")

    def __init__(self, most: int, anchors: Iterable[tuple[int, int]] = ()) -> None:
        """`most`: rows of the largest batch. `anchors`: as of Cost."""
        self.cost = Cost(anchors)
        self.row_s = 0.0
        self._most = most
        self._full = float(most)
        """Rows of a batch when more wait than fit: fewer where requests differ in shape, or are large."""
        self._workers = 1
        self._price()

    def share(self, most: int, workers: int) -> None:
        """The largest batch is of so many rows now, and so many workers share what waits."""
        if most != self._most:
            self._most = most
            self._full = float(most)
        self._workers = max(1, workers)
        self._price()

    def anchor(self, anchors: Iterable[tuple[int, int]]) -> None:
        """A worker that was started anew measured this; what was learned of those before it stays."""
        self.cost.anchor(anchors)
        self._price()

    def cut(self, rows: int, *, left: bool) -> None:
        """A batch of so many rows was taken; whether others were left behind."""
        if left or rows > self._full:
            self._full += LEARN * (rows - self._full)

    def answered(self, rows: int, took_us: float) -> None:
        """A batch came back."""
        self.cost.observe(rows, took_us)
        self._price()

    def _price(self) -> None:
        cost = self.cost
        self.row_s = (cost.row_us + cost.start_us / max(1.0, self._full)) / 1e6 / self._workers


def pushback_ms(wait_s: float) -> int:
    """The first of PUSHBACKS_MS that is not shorter; the longest for what is longer."""
    return next((ms for ms in PUSHBACKS_MS if ms >= wait_s * 1000), PUSHBACKS_MS[-1])
