"""What happened to requests, in the shape proxies report it and everyone else reads it.

Histograms are sparse `{bucket index: count}` over `gateway.observe.histogram`'s log-linear microsecond buckets.
All reports are increments since the proxy's previous report.
"""

import msgspec


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
    queue: dict[int, int] = {}
    """From the lane's queue to the worker's socket."""
    queue_sum_us: int = 0
    queue_max_us: int = 0


class BatchReport(msgspec.Struct, frozen=True):
    """Batches sent to one pool. `rows`: `{bit_length(rows): batches}`; `compute_us`: inside ONNX Runtime."""

    model: str
    version: int
    shadow: bool
    batches: int = 0
    rows: int = 0
    sizes: dict[int, int] = {}
    compute_us: int = 0


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
