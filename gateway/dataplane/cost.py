"""What a batch costs: a straight line through the durations seen lately, duration ≈ a · rows + b. Pure.

As Clipper (NSDI'17, section 4.3) and BentoML's dispatcher do. Least squares over exponentially forgotten observations;
what warm-up measured stays in, so that the line knows large batches before the first one comes, and does not swing when
all batches have one size. It weighs as much as an observation at first, and less and less as the version is used: the
first runs of a model are slow, and it ran alone then.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

FORGET: Final = 0.98
"""An observation weighs so much less with each one after it: about the last fifty count."""
FADE: Final = 0.99
"""What warm-up measured weighs so much less with each observation,"""
LEAST: Final = 0.02
"""but not less than this: enough to tell the slope when nothing else does."""
GAIN: Final = 20
"""A batch whose rows take so many times what it costs to start one: larger ones save less than a twentieth."""
SHORT_US: Final = 5000
"""A batch that takes no longer than this is not too large."""
FLAT: Final = 1e-9
"""Of the squared rows: with less spread than this the slope cannot be told from the height."""


class Cost:
    """The line of one version, as one proxy sees it: its own hop and its wait for other proxies included."""

    __slots__ = ("_n", "_nn", "_nt", "_sure", "_t", "_trust", "_weight", "enough", "row_us", "start_us")

    def __init__(self, anchors: Iterable[tuple[int, int]] = ()) -> None:
        """`anchors`: (rows, microseconds) measured beforehand."""
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        self.row_us = 0.0
        """a: what each row adds."""
        self.start_us = 0.0
        """b: what a batch costs at all. Both are 0 while nothing is known."""
        self.enough = inf
        """Rows from which larger batches save next to nothing; whoever comes while one runs would wait for it."""
        self.anchor(anchors)

    def anchor(self, anchors: Iterable[tuple[int, int]]) -> None:
        """Takes (rows, microseconds) measured beforehand instead of those it had; what was learned stays."""
        pairs = list(anchors)
        self._sure = (
            float(len(pairs)),
            float(sum(n for n, _ in pairs)),
            float(sum(t for _, t in pairs)),
            float(sum(n * n for n, _ in pairs)),
            float(sum(n * t for n, t in pairs)),
        )
        """Sums of the anchors: weight, n, t, n², nt."""
        self._trust = 1.0
        if pairs or self._weight:
            self._draw()

    def observe(self, rows: int, took_us: float) -> None:
        """Learns from one batch."""
        self._weight = self._weight * FORGET + 1.0
        self._n = self._n * FORGET + rows
        self._t = self._t * FORGET + took_us
        self._nn = self._nn * FORGET + rows * rows
        self._nt = self._nt * FORGET + rows * took_us
        self._trust = max(LEAST, self._trust * FADE)
        self._draw()

    def run_us(self, rows: int) -> float:
        """How long a batch is expected to take."""
        return self.row_us * rows + self.start_us

    def rows_within(self, us: float) -> float:
        """The largest batch that is expected to take no longer; less than 1: not even a single row is."""
        if us < self.start_us:
            return 0.0
        return (us - self.start_us) / self.row_us if self.row_us else inf

    def _draw(self) -> None:
        sure, trust = self._sure, self._trust
        weight, n, t = self._weight + trust * sure[0], self._n + trust * sure[1], self._t + trust * sure[2]
        nn, nt = self._nn + trust * sure[3], self._nt + trust * sure[4]
        spread = weight * nn - n * n
        slope = (weight * nt - n * t) / spread if spread > FLAT * weight * nn else 0.0
        height = (t - slope * n) / weight
        if slope < 0.0:  # noise: larger batches are never cheaper
            slope, height = 0.0, t / weight
        elif height < 0.0:
            slope, height = t / n, 0.0
        self.row_us, self.start_us = slope, height
        self.enough = max(GAIN * height, SHORT_US - height) / slope if slope else inf
