"""What happened to requests, in the shape proxies report it and everyone else reads it.

Histograms are sparse `{bucket index: count}` over `gateway.observe.histogram`'s log-linear microsecond buckets.
All reports are increments since the proxy's previous report.
"""

from typing import Final

import msgspec

EXACT_ROWS: Final = 1024


class SeriesReport(msgspec.Struct, frozen=True):
    """Requests of one (model, version, arm); `version` 0: refused before one was chosen."""

    model: str
    version: int
    arm: str
    codes: dict[int, int] = {}
    """Answers by gRPC status code."""
    latency: dict[int, int] = {}
    """From the complete request to the reply handed to the transport."""
    latency_sum_us: int = 0
    latency_max_us: int = 0
    failed_sum_us: int = 0
    """Of `latency_sum_us`, what belongs to answers that are not OK."""
    queue: dict[int, int] = {}
    """From the lane's queue to the worker's socket."""
    queue_sum_us: int = 0
    queue_max_us: int = 0


class SizeReport(msgspec.Struct, frozen=True, array_like=True):
    """Batches of one size: how many, their time inside ONNX Runtime and on their way to it and back."""

    batches: int
    compute_us: int
    carried_us: int


class BatchReport(msgspec.Struct, frozen=True):
    """Batches sent to one pool. `sizes`: `{bit_length(rows): batches}`; `compute_us`: inside ONNX Runtime."""

    model: str
    version: int
    shadow: bool
    batches: int = 0
    rows: int = 0
    sizes: dict[int, int] = {}
    compute_us: int = 0
    by_rows: dict[int, SizeReport] = {}
    """By `size_class(rows)`. Only of live pools, as are the following."""
    shared_compute_us: int = 0
    """`compute_us`, counted once for every request in the batch."""
    shared_carried_us: int = 0
    """Sent until its answer was here, without `compute_us`; counted likewise."""
    last_ms: int = 0
    """When the last one was answered, in milliseconds since the epoch."""


class ShadowReport(msgspec.Struct, frozen=True):
    """Copies to one shadow version. `compared` and `agreed` count rows; the others count copies."""

    model: str
    version: int
    copies: int = 0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    failed: int = 0
    incomparable: int = 0
    max_abs_difference: float = 0.0
    latency: dict[int, int] = {}
    """From the copy's queue to its comparison."""
    latency_sum_us: int = 0
    latency_max_us: int = 0


class Trace(msgspec.Struct, frozen=True, array_like=True):
    """When one request that was answered came to each point of its way: the machine's monotonic clock, in ns."""

    model: str
    version: int
    request_id: str
    arrived_ns: int
    sent_ns: int
    """To a worker, with its batch."""
    run_ns: int
    """Inside ONNX Runtime from here on, reckoned back from the end by what the worker measured."""
    ended_ns: int
    """The worker's answer was here."""
    answered_ns: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """One proxy's increments plus its gauges."""

    series: tuple[SeriesReport, ...] = ()
    batches: tuple[BatchReport, ...] = ()
    shadows: tuple[ShadowReport, ...] = ()
    retries: int = 0
    """Requests run again because their worker died."""
    in_flight: int = 0
    queued: dict[str, int] = {}
    """Gauge: queued requests by model."""
    waiting: dict[str, dict[int, int]] = {}
    """Gauge: the same by model and version."""
    connections: int = 0
    """Gauge: open client connections."""
    transport: dict[str, int] = {}
    """How often a limit of the transport struck, by reason."""
    held_bytes: int = 0
    """Gauge: requests and replies on their way, in memory of the transport."""
    tls_not_after_s: int = 0
    """Gauge: when the certificate ends, in Unix seconds; 0: there is none."""
    tls_reloads: dict[str, int] = {}
    """New certificate files, by what became of them: `ok` or `failed`."""
    traces: tuple[Trace, ...] = ()
    """Requests that were picked."""
    answers: int = 0
    """Number of the Survey that asked for it; 0: it came by itself."""


def size_class(rows: int) -> int:
    """The size under which a batch is counted: exact as far as batches are joined, then the next power of two.

    Callers choose how many rows a request has, so sizes must not be without number.
    """
    return rows if rows <= EXACT_ROWS else 1 << (rows - 1).bit_length()
