import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway.controlplane import proxies as module
from gateway.controlplane.errands import Errands
from gateway.controlplane.lifetime import PROXY
from gateway.controlplane.listener import reserved_port
from gateway.controlplane.processes import Launcher
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.settings import ProxySettings
from gateway.controlplane.tasks import Bell
from gateway.errors import NotReady, StartupError
from gateway.routing import link
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Snapshot
from tests.children.world import Book, Reported, proxy, release

START_S = 60.0


class Watched(Reported):
    """Reports that ring, so that tests can wait for what proxies do."""

    def __init__(self) -> None:
        super().__init__()
        self.bell = Bell()

    def fold(self, proxy: int, report: Report) -> None:
        super().fold(proxy, report)
        self.bell.ring()

    def proxy_gone(self, proxy: int) -> None:
        super().proxy_gone(proxy)
        self.bell.ring()


@asynccontextmanager
async def running(
    run_dir: Path, book: Book, manner: str = "good", *, count: int = 1, ack_timeout_s: float = 30.0
) -> AsyncIterator[tuple[Proxies, Watched]]:
    with reserved_port("127.0.0.1", 0, "--grpc-port") as port:
        settings = ProxySettings("127.0.0.1", port, count, drain_grace_s=5, ack_timeout_s=ack_timeout_s)
        reported = Watched()
        proxies = Proxies(settings, Launcher(book), proxy(manner), run_dir, reported)
        try:
            yield proxies, reported
        finally:
            await proxies.close()


async def test_all_proxies_listen_on_one_port_and_apply_what_is_published(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, count=2) as (proxies, reported):
        assert await proxies.publish(Snapshot(0, (release(),))) == ()  # nobody is there yet: nothing to wait for
        await proxies.start(START_S)
        assert (proxies.listening, proxies.all_listening) == (2, True)
        every = await asyncio.gather(*(proxies.publish(Snapshot(0, (release(revision=n),))) for n in range(2, 20)))
        assert {tuple((one.proxy, one.took_ms > 0, one.fenced) for one in applied) for applied in every} == {
            ((0, True, False), (1, True, False))
        }
        assert proxies.snapshot.epoch == 19
        await reported.bell.until(lambda: {index for index, _ in reported.reports} == {0, 1})
        await proxies.drain()
        assert proxies.restarts == 0


def test_work_is_shared_out_and_connections_are_not(run_dir: Path, book: Book) -> None:
    settings = ProxySettings("h", 1, 3, max_in_flight=10, max_queue=3, max_shadow_queue=2, max_connections=7)
    proxies = Proxies(settings, Launcher(book), proxy(), run_dir, Reported())
    told = [proxies._configure(index) for index in range(3)]
    assert [one.max_in_flight for one in told] == [4, 3, 3]
    assert [one.max_queue for one in told] == [1, 1, 1]
    assert [one.max_shadow_queue for one in told] == [1, 1, 1], "nobody is left without any"
    assert {(one.max_connections, one.peers) for one in told} == {(7, settings.peers)}


async def test_a_dead_proxy_is_replaced_and_gets_the_newest_snapshot(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, reported):
        await proxies.start(START_S)
        os.kill(book.pids(PROXY)[0], signal.SIGKILL)
        await proxies.publish(Snapshot(0, (release(),)))  # a dead proxy holds up nobody
        await reported.bell.until(lambda: reported.gone == [0])
        await reported.bell.until(lambda: proxies.all_listening)
        assert proxies.restarts == 1
        assert proxies._slots[0].applied >= proxies.snapshot.epoch


async def test_a_proxy_that_never_applies_is_fenced_before_publishing_is_done(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, "deaf", ack_timeout_s=0.2) as (proxies, reported):
        await proxies.start(START_S)
        deaf = book.pids(PROXY)[0]
        with structlog.testing.capture_logs() as logged:
            (applied,) = await proxies.publish(Snapshot(0, (release(),)))
            assert deaf not in book.alive
        assert (applied.proxy, applied.fenced) == (0, True)
        assert applied.took_ms >= 200
        assert any(line["event"] == "proxy fenced" and line["pid"] == deaf for line in logged)
        await reported.bell.until(lambda: proxies.all_listening)
        assert book.pids(PROXY) != [deaf]


async def test_a_proxy_that_is_late_lives_on_where_only_pools_have_changed(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, "deaf", ack_timeout_s=0.05) as (proxies, _):
        await proxies.start(START_S)
        deaf = book.pids(PROXY)
        assert proxies.send(Snapshot(0, (release(),))) == proxies.snapshot.epoch == 1
        await asyncio.sleep(0.2)  # longer than it would have been given
        assert book.pids(PROXY) == deaf


async def test_a_survey_is_over_when_every_proxy_has_reported(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, count=2) as (proxies, reported):
        await proxies.survey()  # nobody is there yet: nothing to wait for
        await proxies.start(START_S)
        await proxies.survey()
        answers = [(index, report.answers) for index, report in reported.reports if report.answers]
        assert sorted(answers) == [(0, 2), (1, 2)]


async def test_a_survey_does_not_wait_for_the_dead(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, count=2) as (proxies, _):
        await proxies.start(START_S)
        victim = book.pids(PROXY)[0]
        os.kill(victim, signal.SIGSTOP)
        surveying = asyncio.get_running_loop().create_task(proxies.survey())
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        await surveying


async def test_a_proxy_that_does_not_report_in_time_is_named(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, "deaf", ack_timeout_s=0.1) as (proxies, _):
        await proxies.start(START_S)
        with pytest.raises(NotReady, match="proxy 0 does not report in time"):
            await proxies.survey()


async def test_what_proxies_are_told_stands_for_new_ones(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, reported):
        await proxies.tell(link.ErrandDone(1, b"old"))
        await proxies.tell(link.ErrandDone(2, b"new"))
        await proxies.start(START_S)
        await reported.bell.until(lambda: any(report.queued for _, report in reported.reports))
        await proxies.tell(link.ErrandDone(3, b"newest"))
        assert [report.queued for _, report in reported.reports if report.queued] == [{"new": 2}, {"newest": 3}]


async def test_a_lease_holds_for_every_proxy_also_for_new_ones(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, reported):
        proxies.lease(1.0)
        proxies.lease(2.0)
        await proxies.start(START_S)
        proxies.lease(3.0)
        proxies.lease(None)
        await proxies.survey()
        assert [report.queued["lease"] for _, report in reported.reports if report.queued] == [2, 3, -1]


async def test_an_errand_is_answered_to_the_proxy_that_sent_it(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book, "asking") as (proxies, reported):
        errands = Errands()

        async def echo(errand: link.Errand) -> bytes:
            return errand.message + b" " + errand.peer.encode()

        errands.add("Echo", echo)
        proxies.on_errand = errands.take
        await proxies.start(START_S)
        proxies.send(Snapshot(0))
        await reported.bell.until(lambda: any(report.queued for _, report in reported.reports))
        assert {"hello ada": 7} in [report.queued for _, report in reported.reports]


async def test_a_proxy_that_hangs_is_fenced(run_dir: Path, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.02)
    monkeypatch.setattr(module, "START_LIMIT", 1_000_000)
    async with running(run_dir, book) as (proxies, reported):
        await proxies.start(START_S)  # the stand-in reports only when something is published
        await reported.bell.until(lambda: proxies.restarts > 0 or bool(reported.gone))


async def test_a_proxy_that_hangs_before_it_listens_is_fenced(
    run_dir: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.02)
    monkeypatch.setattr(module, "START_LIMIT", 5)
    async with running(run_dir, book, "mute") as (proxies, reported):
        starting = asyncio.get_running_loop().create_task(proxies.start(START_S))
        await reported.bell.until(lambda: bool(reported.gone))
        starting.cancel()


async def test_a_proxy_that_waits_to_be_started_again_does_not_hold_up_the_end(
    run_dir: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.controlplane.restarts.FIRST_DELAY_S", 0.2)
    async with running(run_dir, book, count=2) as (proxies, reported):
        await proxies.start(START_S)
        dead, busy = book.pids(PROXY)
        os.kill(busy, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        await reported.bell.until(lambda: bool(reported.gone))
        keeper = f"proxy {reported.gone[0]}"
        waiting = [task for task in proxies._tasks._running if task.get_name() == keeper]
        draining = asyncio.get_running_loop().create_task(proxies.drain())
        await asyncio.wait(waiting)
        assert book.pids(PROXY) == [busy]
        os.kill(busy, signal.SIGCONT)
        await draining


async def test_a_proxy_that_talks_nonsense_is_replaced(
    run_dir: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KILL_GRACE_S", 0.05)
    async with running(run_dir, book, "garbage") as (proxies, reported):
        await proxies.start(START_S)
        await proxies.publish(Snapshot(0))
        await reported.bell.until(lambda: bool(reported.gone))


async def test_a_proxy_that_cannot_start_says_why(run_dir: Path, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.controlplane.restarts.FIRST_DELAY_S", 0.001)
    async with running(run_dir, book, "broken") as (proxies, _):
        with pytest.raises(StartupError, match="proxy 0: no luck today"):
            await proxies.start(START_S)


async def test_proxies_that_never_listen_end_the_start(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, _):
        with pytest.raises(StartupError, match="do not listen after 0 s"):
            await proxies.start(0.0)


async def test_a_stranger_at_the_control_socket_learns_nothing(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, _):
        await proxies.start(START_S)
        reader, writer = await asyncio.open_unix_connection(run_dir / "control.sock")
        writer.write(link.encode(link.Hello(0, os.getpid())))
        assert await reader.read() == b""
        writer.close()
        assert proxies.all_listening


async def test_drained_proxies_are_gone_and_the_port_is_free(run_dir: Path, book: Book) -> None:
    async with running(run_dir, book) as (proxies, _):
        await proxies.start(START_S)
        port = proxies._settings.port
        await proxies.drain()
        assert book.alive == {}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
