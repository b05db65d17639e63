"""What the transport's bench sends: connection counts, changing headers, real clients, TLS, sizes, streams, idlers."""

import random
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from tests.bench import load
from tests.bench.comparison import Measured, Shape, Side
from tests.bench.drive import drive, wires
from tests.bench.echo import BIDI, COUNT, MANY, UNARY
from tests.bench.load import BenchError
from tests.bench.raw_client import Headers, Script, prefixed, render_bidi, render_many, render_unary
from tests.bench.servers import Echo, echo_server

MESSAGE_BYTES = 150
"""About a request of a small classifier."""
IN_FLIGHT = 64
CONNECTIONS = 4
IDLE_CONNECTIONS = 512
CLIENTS = 2
"""Processes of grpcio."""
AHEAD = 16
"""Messages in flight on a stream."""
CHANGING_CALLS = 20_000
"""Rendered for each connection, for each kind of headers."""
MANY_REPLIES = 20_000


class Workload:
    """Payloads and rendered scripts, made when first needed."""

    def __init__(self, folder: Path, scale: float = 1.0) -> None:
        """`scale`: the largest part of a shape's items that will be asked for."""
        self._folder = folder
        self._scale = scale
        self._scripts: dict[Headers, list[Script]] = {}

    @cached_property
    def message(self) -> bytes:
        """Bytes that stand for a request; the first four count the replies of MANY, and are set there."""
        return random.Random(0).randbytes(MESSAGE_BYTES)  # noqa: S311 - filler

    def payload(self, size: int) -> Path:
        """A file with one prefixed message of `size` bytes, for h2load."""
        path = self._folder / f"payload-{size}"
        if not path.exists():
            path.write_bytes(prefixed(random.Random(size).randbytes(size)))  # noqa: S311 - filler
        return path

    def scripts(self, kind: Headers) -> list[Script]:
        """Unary calls of CONNECTIONS connections."""
        if kind not in self._scripts:
            calls = round(CHANGING_CALLS * self._scale)
            self._scripts[kind] = [render_unary(UNARY, kind, self.message, calls, at) for at in range(CONNECTIONS)]
        return self._scripts[kind]

    @cached_property
    def few_calls(self) -> Script:
        """For one of very many connections."""
        return render_unary(UNARY, Headers.SAME, self.message, 200)


def transport_shapes(work: Workload) -> list[Shape]:
    """All shapes, in the order of the table."""
    return [
        h2load_latency(work, tls=False, aim="≤ 0.3"),
        h2load_rate(work, 1, 64, 200_000),
        h2load_rate(work, 4, 16, 300_000, aim="≥ 25"),
        h2load_rate(work, 64, 1, 100_000),
        in_turns(work),
        *headers_shapes(work, "≥ 8", (Headers.LITERAL, Headers.INDEXED)),
        grpcio_shape(work, "unary", "call", IN_FLIGHT // CLIENTS, 4_000),
        h2load_latency(work, tls=True),
        h2load_rate(work, 4, 16, 150_000, tls=True),
        message_shape(work, "1 KB", 1 << 10, 16, 100_000),
        message_shape(work, "64 KB", 64 << 10, 4, 4_000),
        message_shape(work, "1 MB", 1 << 20, 1, 400, aim="≥ 1"),
        raw_bidi(work),
        raw_many(work),
        grpcio_shape(work, "bidi", "message", AHEAD, 5_000),
        grpcio_shape(work, "many", "message", 1, 20_000),
        idle_shape(work),
    ]


def hardening_shapes(work: Workload) -> list[Shape]:
    """What the cost of a change to the transport is measured by."""
    aim = "≥ 0.85"
    return [h2load_rate(work, 4, 16, 300_000, aim=aim), *headers_shapes(work, aim, tuple(Headers))]


def h2load_rate(
    work: Workload, connections: int, streams: int, items: int, *, tls: bool = False, aim: str = ""
) -> Shape:
    """Unary calls as fast as they go, the same header block each time."""

    def measure(side: Side, count: int) -> Measured:
        with _cpu(_server(side, tls)) as (echo, spent):
            run = _h2load(work, echo, MESSAGE_BYTES, count, connections, streams, tls=tls)
        return Measured(run.rate, spent() / count)

    name = f"{connections} × {streams}{', TLS' if tls else ''}"
    return Shape(name, "h2load", "calls/s", "µs/call", measure, items, aim, floor=connections * streams)


def h2load_latency(work: Workload, *, tls: bool, aim: str = "") -> Shape:
    """One call at a time."""

    def measure(side: Side, count: int) -> Measured:
        with _cpu(_server(side, tls)) as (echo, spent):
            run = _h2load(work, echo, MESSAGE_BYTES, count, 1, 1, tls=tls, latencies=True)
        return Measured(run.quantile_ms(0.5) * 1000, spent() / count)

    return Shape(f"1 × 1{', TLS' if tls else ''}", "h2load", "p50 µs", "µs/call", measure, 30_000, aim, floor=500)


def message_shape(work: Workload, label: str, size: int, streams: int, items: int, aim: str = "") -> Shape:
    """Large messages, both ways; megabytes are counted one way."""

    def measure(side: Side, count: int) -> Measured:
        with _cpu(side.plain) as (echo, spent):
            run = _h2load(work, echo, size, count, CONNECTIONS, streams)
        megabytes = count * size / 1e6
        return Measured(megabytes / run.duration_s, spent() / megabytes)

    name = f"{label} messages, {CONNECTIONS} × {streams}"
    floor = items // 4
    return Shape(name, "h2load", "MB/s", "µs/MB", measure, items, aim, floor)


def headers_shapes(work: Workload, aim: str, aimed: Sequence[Headers]) -> Iterator[Shape]:
    """The same calls by a client whose header blocks change in three ways, and in none. `aim` is for those `aimed`."""
    for kind in Headers:
        name = f"4 × 16, {'ten fields, ' if kind is Headers.SAME else 'new '}{kind.value}"
        scripts = _scripts_of(work, kind)
        yield raw_shape(name, scripts, "call", CHANGING_CALLS * CONNECTIONS, aim if kind in aimed else "")


def _scripts_of(work: Workload, kind: Headers) -> Callable[[], list[Script]]:
    return lambda: work.scripts(kind)


def raw_shape(name: str, scripts: Callable[[], list[Script]], word: str, items: int, aim: str = "") -> Shape:
    """Items of scripts, evenly over their connections, IN_FLIGHT in flight."""

    def measure(side: Side, count: int) -> Measured:
        made = scripts()
        limit = min(count // len(made), made[0].items)
        with _cpu(side.plain) as (echo, spent):
            run = drive(echo.port, made, limit, IN_FLIGHT)
        return Measured(run.items / run.duration_s, spent() / run.items)

    return Shape(name, "raw", f"{word}s/s", f"µs/{word}", measure, items, aim, floor=20 * IN_FLIGHT)


def in_turns(work: Workload) -> Shape:
    """Many connections that share what is in flight."""
    count = 512
    shape = raw_shape(f"{count} in turns, 64 in flight", lambda: [work.few_calls] * count, "call", 100 * count)
    return Shape(shape.name, "raw", shape.unit, shape.cpu_unit, shape.measure, shape.items, floor=count)


def raw_bidi(work: Workload) -> Shape:
    """One stream on each connection, every message echoed."""

    def scripts() -> list[Script]:
        return [render_bidi(BIDI, work.message, 20_000)] * CONNECTIONS

    return raw_shape(f"bidi streams, {CONNECTIONS} × {AHEAD} messages ahead", scripts, "message", 20_000 * CONNECTIONS)


def raw_many(work: Workload) -> Shape:
    """Server streaming: one stream on each connection, as fast as the client reads."""

    def measure(side: Side, count: int) -> Measured:
        replies = count // CONNECTIONS
        script = render_many(MANY, COUNT.pack(replies) + work.message[COUNT.size :], replies)
        with _cpu(side.plain) as (echo, spent):
            run = drive(echo.port, [script] * CONNECTIONS, 1, IN_FLIGHT)
        total = replies * CONNECTIONS
        return Measured(total / run.duration_s, spent() / total)

    name, total = f"server streaming, {CONNECTIONS} × 1", MANY_REPLIES * CONNECTIONS
    return Shape(name, "raw", "messages/s", "µs/message", measure, total, floor=1000)


def grpcio_shape(work: Workload, method: str, word: str, in_flight: int, items: int) -> Shape:
    """grpcio's own client, which is slower than either server: look at the CPU."""

    def measure(side: Side, count: int) -> Measured:
        each = count // CLIENTS
        with ExitStack() as stack:
            clients = [stack.enter_context(_client(side.plain.port, method, each, in_flight)) for _ in range(CLIENTS)]
            for client in clients:
                _tell(client, len(work.message).to_bytes(4, "big") + work.message)
            for client in clients:
                _hear(client, b"ready")
            with _cpu(side.plain) as (_, spent):
                for client in clients:
                    _tell(client, b"\n")
                longest_s = max(float(_hear(client)) for client in clients)
        return Measured(each * CLIENTS / longest_s, spent() / (each * CLIENTS))

    names = {
        "unary": f"{CLIENTS} × {in_flight}",
        "bidi": f"bidi streams, {CLIENTS} × {in_flight} messages ahead",
        "many": f"server streaming, {CLIENTS} × 1",
    }
    client = f"{CLIENTS} × grpcio"
    return Shape(names[method], client, f"{word}s/s", f"µs/{word}", measure, items * CLIENTS, floor=items)


def idle_shape(work: Workload) -> Shape:
    """What a server grows by for connections that made one call each and stay; a new server each time."""

    def measure(side: Side, count: int) -> Measured:
        with echo_server(side.name, side.module, *(["0"] if side.module.endswith("h2") else [])) as echo:
            _one_call_each(echo, work.few_calls, 16)
            before_bytes = echo.resident_bytes
            after_bytes = _one_call_each(echo, work.few_calls, count)
        return Measured((after_bytes - before_bytes) / 1e6)

    name = f"{IDLE_CONNECTIONS} idle connections"
    return Shape(name, "raw", "MB", "", measure, IDLE_CONNECTIONS, "< 10 MB", IDLE_CONNECTIONS)


def _one_call_each(echo: Echo, script: Script, count: int) -> int:
    """The server's memory while `count` connections that have made a call are open."""
    with wires(echo.port, [script] * count, 1) as opened:
        for wire in opened:
            wire.send(1)
            while not wire.settled:
                wire.read()
            wire.check()
        time.sleep(0.5)  # what a server puts off until it has nothing else to do is done then
        return echo.resident_bytes


def _server(side: Side, tls: bool) -> Echo:
    if not tls:
        return side.plain
    if side.tls is None:
        raise BenchError(f"{side.name} serves no TLS")
    return side.tls


def _h2load(
    work: Workload,
    echo: Echo,
    size: int,
    count: int,
    connections: int,
    streams: int,
    *,
    tls: bool = False,
    latencies: bool = False,
) -> load.Load:
    return load.run(
        echo.port,
        work.payload(size),
        size,
        requests=count,
        connections=connections,
        streams=streams,
        tls=tls,
        latencies=latencies,
    )


@contextmanager
def _cpu(echo: Echo) -> Iterator[tuple[Echo, Callable[[], float]]]:
    """The server, and what tells the µs of CPU it took inside the block, once that is over."""
    times = array("d", [echo.cpu_s])
    yield echo, lambda: (times[1] - times[0]) * 1e6
    times.append(echo.cpu_s)


@contextmanager
def _client(port: int, method: str, items: int, in_flight: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.bench.grpcio_client", str(port), method, str(items), str(in_flight)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes], expected: bytes = b"") -> bytes:
    """A line. Raises BenchError when the client ended instead; what it says of that is on stderr."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line or (expected and line != expected):
        raise BenchError(f"grpcio's client failed: {line!r}")
    return line
