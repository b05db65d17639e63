import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.errors import StartupError
from gateway.observe import http
from gateway.observe.http import HttpServer, create_app, start_http


class OneMetric(Collector):
    def collect(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("cutover_test", "A test.", value=4)]


class Readiness:
    def __init__(self) -> None:
        self.value = False

    def __call__(self) -> bool:
        return self.value


async def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), head.lower(), body


@asynccontextmanager
async def serving(ready: Readiness | None = None) -> AsyncIterator[HttpServer]:
    server = await start_http(create_app([OneMetric()], ready or Readiness()), "127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


async def test_metrics_in_both_formats() -> None:
    async with serving() as server:
        status, head, body = await get(server.port, "/metrics")
        assert (status, "text/plain" in head) == (200, True)
        assert "cutover_test 4.0" in body
        assert "process_resident_memory_bytes" in body
        _, head, body = await get(server.port, "/metrics", "application/openmetrics-text;version=1.0.0")
        assert "application/openmetrics-text" in head
        assert body.endswith("# EOF\n")


async def test_ready_follows_the_callable_and_live_does_not() -> None:
    ready = Readiness()
    async with serving(ready) as server:
        assert (await get(server.port, "/health/ready"))[0] == 503
        assert (await get(server.port, "/health/live"))[0] == 200
        ready.value = True
        assert (await get(server.port, "/health/ready"))[0] == 200


async def test_the_index_names_the_pages_and_others_do_not_exist() -> None:
    async with serving() as server:
        status, _, body = await get(server.port, "/")
        assert status == 200
        assert "/metrics" in body
        assert (await get(server.port, "/etc/passwd"))[0] == 404


async def test_broken_http_is_answered_and_hurts_nobody() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x00\xff not http\r\n\r\n")
        assert b"400" in await reader.read()
        writer.close()
        assert (await get(server.port, "/health/live"))[0] == 200


async def test_signals_stay_with_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving():
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_taken_port_names_the_option() -> None:
    async with serving() as server:
        with pytest.raises(StartupError, match=rf"port {server.port} on 127.0.0.1 is taken: .*--http-port"):
            await start_http(create_app([OneMetric()], Readiness()), "127.0.0.1", server.port)


@pytest.mark.parametrize("host", ["host.invalid", "192.0.2.1"])
async def test_a_wrong_host_names_the_option(host: str) -> None:
    with pytest.raises(StartupError, match="--http-host"):
        await start_http(create_app([OneMetric()], Readiness()), host, 0)


async def test_the_port_is_free_again_after_stop() -> None:
    async with serving() as server:
        port = server.port
    again = await start_http(create_app([OneMetric()], Readiness()), "127.0.0.1", port)
    await again.stop()


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_start_that_is_cancelled_at_any_moment_leaves_no_listener(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    async def listen(host: str, port: int) -> socket.socket:
        return listener

    monkeypatch.setattr(http, "_listen", listen)
    starting = asyncio.get_running_loop().create_task(start_http(create_app([], Readiness()), "127.0.0.1", 0))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await (await starting).stop()  # it was too late to cancel it
    assert listener.fileno() == -1
