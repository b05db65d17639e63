"""A proxy process, with the test as its control process and as its worker."""

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Literal, Self

import grpc.aio
import msgspec
import pytest

from gateway.dataplane import proxy as proxies
from gateway.dataplane.pipeline import LAPSED
from gateway.dataplane.proxy import bound, transport_limits
from gateway.routing import link
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Policy, Release, Snapshot
from gateway.routing.update import difference
from gateway.transport.h2.limits import Limits
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import SocketWorker, infer, pool

PATIENCE_S = 60
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Control:
    """Listens for one proxy and speaks with it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control"
        self.process: asyncio.subprocess.Process | None = None
        self._messages: asyncio.Queue[link.FromProxy] = asyncio.Queue()
        self._connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        command = [sys.executable, "-m", "gateway.dataplane", "--control", str(self.path), "--index", "3"]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        self._writer = await asyncio.wait_for(self._connected.get(), PATIENCE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def leave(self) -> None:
        """The control process is gone."""
        self._server.close()
        if self._writer is not None:
            self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.put_nowait(writer)
        frames = link.Frames()
        while data := await reader.read(1 << 16):
            for body in frames.feed(data):
                self._messages.put_nowait(link.from_proxy.decode(body))
        writer.close()

    def send(self, *messages: link.FromControl) -> None:
        assert self._writer is not None
        self._writer.writelines(map(link.encode, messages))

    async def next(self, *, reports: bool = False) -> link.FromProxy:
        """The next message; reports only when asked for."""
        async with asyncio.timeout(PATIENCE_S):
            while isinstance(message := await self._messages.get(), Report) is not reports:
                pass
        return message

    def configure(self, port: int = 0) -> link.Configure:
        return link.Configure(
            host="127.0.0.1", port=port, max_message_bytes=1 << 20, max_streams=100, max_in_flight=100, max_queue=100,
            max_shadow_queue=10, worker_wait_ms=1000, server_name="cutover", server_version="1",
        )  # fmt: skip

    async def ended(self) -> tuple[int | None, str]:
        """Exit code and what was printed to stderr."""
        assert self.process is not None
        _, stderr = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode, stderr.decode()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    async with Control(tmp_path) as made:
        yield made


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[SocketWorker]:
    async with SocketWorker(tmp_path / "worker") as made:
        yield made


def publish(epoch: int, worker: SocketWorker) -> link.Publish:
    release = Release("m", epoch, Policy(1))
    return link.Publish(Snapshot(epoch=epoch, releases=(release,), pools=(pool(addresses=(worker.address,)),)))


async def ask(port: int) -> tuple[list[bytes], str]:
    """The raw outputs of one call, and the revision that answered."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", lambda raw: raw
        )
        call = method(infer((1, 2)), timeout=PATIENCE_S)
        response = pb.ModelInferResponse.FromString(await call)
        trailers = await call.trailing_metadata()
    return list(response.raw_output_contents), str(dict(trailers)["cutover-revision"])


async def test_the_life_of_a_proxy(control: Control, worker: SocketWorker, transport: Literal["h2", "grpcio"]) -> None:
    assert control.process is not None
    assert await control.next() == link.Hello(3, control.process.pid)
    configure = msgspec.structs.replace(control.configure(), entrance=link.Entrance(transport))
    control.send(configure, publish(1, worker))
    assert await control.next() == link.Applied(1)
    listening = await control.next()
    assert isinstance(listening, link.Listening)
    raw, revision = await ask(listening.port)
    assert (raw, revision) == ([infer((1, 2))[-8:]], "1")
    control.send(difference(publish(1, worker).snapshot, publish(2, worker).snapshot))
    assert await control.next() == link.Applied(2)
    assert (await ask(listening.port))[1] == "2"
    answered = 0
    while answered < 2:
        report = await control.next(reports=True)
        assert isinstance(report, Report)
        answered += sum(series.codes.get(0, 0) for series in report.series)
    control.send(link.Drain(grace_ms=1000))
    assert (await control.ended())[0] == 0


async def rarer(port: int, message: bytes = b"") -> bytes:
    """The answer to ModelStatistics, as it came."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelStatistics", lambda raw: raw
        )
        return await method(message, timeout=PATIENCE_S)


async def test_what_only_the_control_process_knows_is_asked_of_it(control: Control, worker: SocketWorker) -> None:
    control.send(control.configure(), publish(1, worker))
    while not isinstance(listening := await control.next(), link.Listening):
        pass
    asking = asyncio.get_running_loop().create_task(rarer(listening.port, b"asked"))
    errand = await control.next()
    assert isinstance(errand, link.Errand)
    assert (errand.kind, errand.message, errand.peer[:10]) == ("ModelStatistics", b"asked", "127.0.0.1:")
    control.send(link.ErrandDone(errand.number, b"answered"))
    assert await asking == b"answered"
    await control.leave()
    assert (await ask(listening.port))[1] == "1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rarer(listening.port)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "the control process is gone" in str(caught.value.details())


async def test_it_reports_at_once_when_asked_to(control: Control, worker: SocketWorker) -> None:
    control.send(control.configure(), publish(1, worker))
    while not isinstance(listening := await control.next(), link.Listening):
        pass
    await ask(listening.port)
    control.send(link.Survey(5))
    answered = 0
    while True:
        report = await control.next(reports=True)
        assert isinstance(report, Report)
        answered += sum(series.codes.get(0, 0) for series in report.series)
        if report.answers:
            break
    assert (report.answers, answered) == (5, 1)


async def test_without_a_control_process_it_serves_on_until_it_is_told_to_stop(
    control: Control, worker: SocketWorker
) -> None:
    control.send(control.configure(), publish(1, worker))
    while not isinstance(listening := await control.next(), link.Listening):
        pass
    await control.leave()
    assert (await ask(listening.port))[1] == "1"
    assert control.process is not None
    control.process.send_signal(signal.SIGINT)
    assert (await ask(listening.port))[1] == "1", "Ctrl-C is for the control process"
    control.process.send_signal(signal.SIGTERM)
    assert (await control.ended())[0] == 0


async def test_a_proxy_whose_lease_has_lapsed_refuses_until_it_gets_another(
    control: Control, worker: SocketWorker
) -> None:
    control.send(control.configure(), link.Lease(0.0), publish(1, worker))
    while not isinstance(listening := await control.next(), link.Listening):
        pass
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(listening.port)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, LAPSED)
    for until_s in (monotonic() + PATIENCE_S * 10, None):
        control.send(link.Lease(until_s), link.Survey(1))
        while isinstance(report := await control.next(reports=True), Report) and not report.answers:
            pass
        assert (await ask(listening.port))[1] == "1"


async def test_a_proxy_that_serves_nobody_ends_with_its_link(control: Control) -> None:
    assert isinstance(await control.next(), link.Hello)
    await control.leave()
    assert (await control.ended())[0] == 1


async def test_a_port_that_is_taken_is_told_and_ends_it(control: Control, worker: SocketWorker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        control.send(control.configure(taken.getsockname()[1]), publish(1, worker))
        while not isinstance(message := await control.next(), link.ProxyFailed):
            pass
        assert "in use" in message.error
        code, stderr = await control.ended()
    assert code == 1
    assert "Traceback" not in stderr
    assert stderr.startswith("proxy 3: ")


def test_proxies_share_a_port() -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bound("127.0.0.1", port) as second:
            assert second.getsockname() == first.getsockname()
            assert not second.getblocking()


def test_a_port_of_somebody_else_is_not_shared() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            bound("127.0.0.1", taken.getsockname()[1])


def test_what_the_proxy_was_told_limits_its_transport() -> None:
    told = link.Configure(
        host="127.0.0.1", port=0, max_message_bytes=1 << 20, max_streams=100, max_in_flight=100, max_queue=100,
        max_shadow_queue=10, worker_wait_ms=1000, server_name="cutover", server_version="1", max_connections=5,
        max_header_bytes=100_000, upload_timeout_ms=1500, write_timeout_ms=0, idle_timeout_ms=60_000,
        peers=link.PeerLimits(max_age_s=60.0, max_buffered_bytes=1 << 24),
    )  # fmt: skip
    limits = transport_limits(told)
    assert (limits.max_connections, limits.max_message_bytes, limits.max_streams) == (5, 1 << 20, 100)
    assert (limits.max_header_list_bytes, limits.max_header_block_bytes) == (100_000, 100_000)
    assert (limits.upload_timeout_s, limits.write_timeout_s, limits.idle_timeout_s) == (1.5, 0.0, 60.0)
    assert (limits.max_age_s, limits.max_buffered_bytes) == (60.0, 1 << 24)


def test_the_defaults_are_those_of_the_transport() -> None:
    told = link.Configure(
        host="", port=0, max_message_bytes=2**31 - 1, max_streams=128, max_in_flight=1, max_queue=1,
        max_shadow_queue=1, worker_wait_ms=1, server_name="", server_version="",
    )  # fmt: skip
    assert transport_limits(told) == Limits()


def test_the_listening_socket_has_a_file_number_above_those_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that is killed, the highest are closed first."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 1000))
    with bound("127.0.0.1", 0) as sock, socket.socket() as later:
        assert 200 > sock.fileno() > later.fileno()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_where_no_high_file_number_is_free_the_socket_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(proxies, "MANY_FILES", 1 << 30)
    with bound("127.0.0.1", 0) as sock:
        sock.listen()
        assert sock.getsockname()[1] > 0
