"""What happened, as plain integers: counted on the hot path, taken once a second as increments."""

from time import monotonic, time
from typing import Final

from gateway.observe.histogram import BUCKET_COUNT, index
from gateway.routing.outcome import BatchReport, SeriesReport, ShadowReport, SizeReport, size_class

UNUSED: Final[list[int]] = []
"""Buckets of a series that has counted nothing: most of a thousand models answer nobody in a given second."""


class Series:
    """Requests of one (model, version, arm)."""

    __slots__ = (
        "arm", "codes", "failed_sum_us", "latency", "latency_max_us", "latency_sum_us", "model", "ok", "queue",
        "queue_max_us", "queue_sum_us", "version",
    )  # fmt: skip

    def __init__(self, model: str, version: int, arm: str) -> None:
        self.model = model
        self.version = version
        self.arm = arm
        self._clear()

    def _clear(self) -> None:
        self.ok = 0
        self.codes: dict[int, int] = {}
        self.latency = UNUSED
        self.latency_sum_us = 0
        self.latency_max_us = 0
        self.failed_sum_us = 0
        self.queue = UNUSED
        self.queue_sum_us = 0
        self.queue_max_us = 0

    def _begin(self) -> None:
        self.latency, self.queue = [0] * BUCKET_COUNT, [0] * BUCKET_COUNT

    def answered(self, count: int, latency_us: int, waited_us: int) -> None:
        """Counts OK answers that share their durations."""
        try:
            self.latency[index(latency_us)] += count
        except IndexError:  # a question for each answer would cost more
            self._begin()
            self.latency[index(latency_us)] += count
        self.ok += count
        self.latency_sum_us += latency_us * count
        if latency_us > self.latency_max_us:  # a call to max() would cost more, here and below
            self.latency_max_us = latency_us
        self.queue[index(waited_us)] += count
        self.queue_sum_us += waited_us * count
        if waited_us > self.queue_max_us:
            self.queue_max_us = waited_us

    def refused(self, code: int) -> None:
        """Counts a request that was turned away on arrival: it has no latency worth a place among the others."""
        self.codes[code] = self.codes.get(code, 0) + 1

    def failed(self, code: int, latency_us: int) -> None:
        """Counts an answer that is not OK."""
        self.refused(code)
        if self.latency is UNUSED:
            self._begin()
        self.latency[index(latency_us)] += 1
        self.latency_sum_us += latency_us
        self.failed_sum_us += latency_us
        self.latency_max_us = max(self.latency_max_us, latency_us)

    def take(self) -> SeriesReport | None:
        """The increments since the last take; None when there are none."""
        if not self.ok and not self.codes:
            return None
        codes = self.codes | {0: self.ok} if self.ok else self.codes
        report = SeriesReport(
            model=self.model,
            version=self.version,
            arm=self.arm,
            codes=codes,
            latency=_sparse(self.latency),
            latency_sum_us=self.latency_sum_us,
            latency_max_us=self.latency_max_us,
            failed_sum_us=self.failed_sum_us,
            queue=_sparse(self.queue),
            queue_sum_us=self.queue_sum_us,
            queue_max_us=self.queue_max_us,
        )
        self._clear()
        return report


class BatchTap:
    """Batches sent to one pool."""

    __slots__ = (
        "_by_rows", "_last_s", "_shared_carried_us", "_shared_compute_us", "batches", "compute_us", "model", "rows",
        "shadow", "sizes", "version",
    )  # fmt: skip

    def __init__(self, model: str, version: int, *, shadow: bool) -> None:
        self.model = model
        self.version = version
        self.shadow = shadow
        self._clear()

    def _clear(self) -> None:
        self.batches = 0
        self.rows = 0
        self.sizes: dict[int, int] = {}
        self.compute_us = 0
        self._by_rows: dict[int, list[int]] = {}
        self._shared_compute_us = 0
        self._shared_carried_us = 0
        self._last_s = 0.0

    def add(self, rows: int, compute_us: int) -> None:
        """Counts one answered batch."""
        self.batches += 1
        self.rows += rows
        self.compute_us += compute_us
        size = rows.bit_length()
        self.sizes[size] = self.sizes.get(size, 0) + 1

    def answered(self, rows: int, requests: int, sent_s: float, compute_us: int) -> float:
        """Counts one batch of requests whose answer has just arrived, with what Triton's statistics say of it.

        Returns the time (monotonic).
        """
        self.add(rows, compute_us)
        self._last_s = now_s = monotonic()
        carried_us = max(int((now_s - sent_s) * 1e6) - compute_us, 0)
        self._shared_compute_us += compute_us * requests
        self._shared_carried_us += carried_us * requests
        size = size_class(rows)
        found = self._by_rows.get(size)
        if found is None:
            self._by_rows[size] = [1, compute_us, carried_us]
        else:
            found[0] += 1
            found[1] += compute_us
            found[2] += carried_us
        return now_s

    def take(self) -> BatchReport | None:
        """The increments since the last take; None when there are none."""
        if not self.batches:
            return None
        report = BatchReport(
            model=self.model,
            version=self.version,
            shadow=self.shadow,
            batches=self.batches,
            rows=self.rows,
            sizes=self.sizes,
            compute_us=self.compute_us,
            by_rows={size: SizeReport(*counted) for size, counted in self._by_rows.items()},
            shared_compute_us=self._shared_compute_us,
            shared_carried_us=self._shared_carried_us,
            last_ms=int((time() - (monotonic() - self._last_s)) * 1000) if self._last_s else 0,
        )
        self._clear()
        return report


class ShadowTap:
    """Copies to one shadow version."""

    __slots__ = (
        "agreed", "compared", "copies", "dropped", "failed", "incomparable", "latency", "latency_max_us",
        "latency_sum_us", "max_abs_difference", "model", "version",
    )  # fmt: skip

    def __init__(self, model: str, version: int) -> None:
        self.model = model
        self.version = version
        self._clear()

    def _clear(self) -> None:
        self.copies = self.compared = self.agreed = self.dropped = self.failed = self.incomparable = 0
        self.max_abs_difference = 0.0
        self.latency: dict[int, int] = {}
        self.latency_sum_us = 0
        self.latency_max_us = 0

    def answered(self, copies: int, latency_us: int) -> None:
        """Counts copies that were compared together."""
        bucket = index(latency_us)
        self.latency[bucket] = self.latency.get(bucket, 0) + copies
        self.latency_sum_us += latency_us * copies
        self.latency_max_us = max(self.latency_max_us, latency_us)

    def take(self) -> ShadowReport | None:
        """The increments since the last take; None when there are none."""
        if not (self.copies or self.dropped or self.failed or self.incomparable or self.compared):
            return None
        report = ShadowReport(
            model=self.model,
            version=self.version,
            copies=self.copies,
            compared=self.compared,
            agreed=self.agreed,
            dropped=self.dropped,
            failed=self.failed,
            incomparable=self.incomparable,
            max_abs_difference=self.max_abs_difference,
            latency=self.latency,
            latency_sum_us=self.latency_sum_us,
            latency_max_us=self.latency_max_us,
        )
        self._clear()
        return report


def _sparse(counts: list[int]) -> dict[int, int]:
    return {bucket: count for bucket, count in enumerate(counts) if count}
