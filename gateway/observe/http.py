"""The HTTP side of the control process: metrics for Prometheus, health for orchestrators, an index."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway import __version__
from gateway.errors import StartupError

BACKLOG = 128
MAX_CONCURRENCY = 256
STOP_GRACE_S = 2

INDEX = f"""Cutover {__version__}

/metrics        Prometheus metrics
/health/live    200 while the control process runs
/health/ready   200 when every proxy listens, what was released at the start has loaded or failed, and,
                if anything is released, at least one stable version can answer; else 503
"""


def create_app(metrics: Sequence[Collector], ready: Callable[[], bool]) -> Starlette:
    """The application; `ready` is asked at each GET /health/ready. `process_*` metrics are this process's own."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in metrics:
        registry.register(collector)
    ProcessCollector(registry=registry)

    async def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def live(_: Request) -> Response:
        return PlainTextResponse("live\n")

    async def is_ready(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)

    async def index(_: Request) -> Response:
        return PlainTextResponse(INDEX)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", scrape),
            Route("/health/live", live),
            Route("/health/ready", is_ready),
        ]
    )


class HttpServer:
    """A running server; `port` is the one really bound."""

    def __init__(self, server: "_Uvicorn", serving: asyncio.Task[None], port: int) -> None:
        self.port = port
        self._server = server
        self._serving = serving

    async def stop(self) -> None:
        """Stops accepting, lets answers under way finish for at most STOP_GRACE_S, closes everything."""
        self._server.should_exit = True
        await self._serving


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to the process it lives in, and says when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()


async def start_http(app: Starlette, host: str, port: int) -> HttpServer:
    """Serves `app` inside the running loop. Port 0 takes a free one. Raises StartupError when it cannot listen."""
    listener = await _listen(host, port)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONCURRENCY,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
    server = _Uvicorn(config)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]), name="http")
    accepting = asyncio.get_running_loop().create_task(server.accepting.wait())
    running = HttpServer(server, serving, listener.getsockname()[1])
    try:
        await asyncio.wait((serving, accepting), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await running.stop()
        raise
    finally:
        accepting.cancel()
    if serving.done():
        listener.close()
        await serving
        raise StartupError(f"the HTTP server ended at once on {host}:{port}")
    return running


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartupError(f"cannot resolve {host!r} ({error.strerror}): give another with --http-host") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(f"port {port} on {host} is taken: choose another with --http-port") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise StartupError(f"{host} is no address of this machine: give another with --http-host") from error
        raise StartupError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another with --http-port"
        ) from error
    return listener
