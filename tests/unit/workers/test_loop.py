"""Tests of `workers.loop`: the loop in a thread, with a service of a few lines."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import frames
from tests.integration.worker_process import Client
from workers import loop as module
from workers import wire
from workers.errors import BadFrame
from workers.loop import Loop, listen
from workers.service import Service
from workers.slots import Slots
from workers.tensors import Bytes


class Echo(Service):
    """Answers each frame with its own bytes as an ERROR's text; a batch of 666 is no frame. Keeps the order of work."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def answer(self, buffer: Bytes, start: int, stop: int, slots: Slots | None = None) -> list[Any]:
        self.entered.set()
        self.gate.wait()
        batch = wire.HEADER.unpack_from(buffer, start)[1]
        if buffer[start + wire.KIND_AT] == wire.CANCEL:
            return [wire.HEADER.pack(0, batch, wire.ERROR, 1, 0, 0)]
        if batch == 666:
            raise BadFrame("six hundred threescore and six")
        self.batches.append(batch)
        body = np.frombuffer(buffer, np.uint8, stop - start - wire.HEADER.size, start + wire.HEADER.size)
        return [wire.HEADER.pack(len(body), batch, wire.ERROR, 13, 0, 0), body.copy()]


class Running:
    """A loop in a thread."""

    def __init__(self, directory: Path) -> None:
        self.service = Echo()
        self.path = directory / "s"
        self.status_read, self.status_write = os.pipe()
        self.loop = Loop(self.service, listen(self.path), self.status_write)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def connect(self) -> Client:
        return Client(self.path)

    def stop(self) -> None:
        self.service.gate.set()
        if self.thread.is_alive():
            self.loop.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.stop()
    for fd in (running.status_read, running.status_write):
        if fd >= 0:
            os.close(fd)


def message(batch: int, size: int = wire.SECTION.size + 2) -> bytes:
    return frames.frame(wire.RUN, batch, bytes(size))


def test_the_socket_is_for_its_user_only(running: Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600


def test_frames_of_one_connection_are_answered_in_order(running: Running) -> None:
    with running.connect() as client:
        client.send(b"".join(message(batch) for batch in range(100)))
        assert [client.receive().batch for _ in range(100)] == list(range(100))


def test_two_connections_get_half_of_the_time_each(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sends batches that take 16 units of time, the other such that take one."""
    service = running.service
    monkeypatch.setattr(module, "perf_counter", lambda: sum(16.0 if batch < 1000 else 1.0 for batch in service.batches))
    service.gate.clear()
    with running.connect() as large, running.connect() as small:
        small.send(message(1000))  # the loop knows both from here on, and stands at the gate
        large.send(b"".join(message(batch) for batch in range(20)))
        small.send(b"".join(message(1000 + batch) for batch in range(1, 200)))
        service.gate.set()
        for client, count in ((large, 20), (small, 200)):
            for _ in range(count):
                client.receive()
    behind = [sum(-16 if batch < 1000 else 1 for batch in service.batches[:end]) for end in range(200)]
    assert all(-20 <= ahead <= 20 for ahead in behind)


def test_frames_cancelled_while_another_is_run_are_not_run(running: Running) -> None:
    running.service.gate.clear()
    with running.connect() as client, running.connect() as other:
        client.send(message(1))
        assert running.service.entered.wait(30)
        client.send(message(2) + message(3) + frames.frame(wire.CANCEL, 2))
        other.send(message(10) + message(11) + frames.frame(wire.CANCEL, 11) + frames.frame(wire.CANCEL, 3))
        client.send(frames.frame(wire.CANCEL, 1))
        running.service.gate.set()
        assert [client.receive().batch for _ in range(3)] == [1, 2, 3]
        assert [other.receive().batch for _ in range(2)] == [10, 11]
    assert sorted(running.service.batches) == [1, 3, 10]


def test_who_asks_hears_that_a_frame_begins_before_it_is_run(running: Running) -> None:
    running.service.gate.clear()
    asked = bytearray(message(5))
    asked[wire.FLAGS_AT] = wire.TELL
    with running.connect() as client:
        client.send(bytes(asked))
        begun = client.receive()
        assert (begun.kind, begun.batch) == (wire.BEGUN, 5)
        running.service.gate.set()
        assert (client.receive().batch, running.service.batches) == (5, [5])


def test_who_waits_hears_that_the_worker_is_at_work_for_others(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALIVE_EVERY_S", -1.0)
    running.service.gate.clear()
    with running.connect() as client, running.connect() as other, running.connect() as idle:
        client.send(message(1))
        assert running.service.entered.wait(30)
        client.send(message(2))
        other.send(message(3)[:-1])  # not even whole
        running.service.gate.set()
        assert [client.receive().batch for _ in range(2)] == [1, 2]
        other.send(message(3)[-1:])
        assert other.receive().batch == 3
        assert other.told > 1, "while it waited, and before it was served"
        idle.send(message(4))
        assert idle.receive().batch == 4
        assert idle.told == 1, "only before it was served"


def test_nobody_is_told_while_runs_are_short(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "perf_counter", lambda: 1000.0 + 0.01 * len(running.service.batches))
    with running.connect() as client, running.connect() as other:
        client.send(message(1))
        assert client.receive().batch == 1
        other.send(message(2)[:-1])
        for batch in range(3, 10):
            client.send(message(batch))
            assert client.receive().batch == batch
        other.send(message(2)[-1:])
        assert (other.receive().batch, other.told) == (2, 0)


def test_half_a_frame_makes_nobody_wait(running: Running) -> None:
    with running.connect() as slow, running.connect() as other:
        slow.send(message(1)[:-1])
        for batch in range(10):
            assert other.ask(message(batch)).batch == batch
        slow.send(message(1)[-1:])
        assert slow.receive().batch == 1


def test_a_proxy_that_does_not_read_makes_nobody_wait(running: Running) -> None:
    with running.connect() as stopped, running.connect() as other:
        size = 12 << 20
        stopped.send(message(1, size))
        stopped.send(message(2))
        for batch in range(10, 20):
            assert other.ask(message(batch)).batch == batch
        assert len(stopped.receive().body) == size
        assert stopped.receive().batch == 2


@pytest.mark.parametrize("garbage", [b"\x00" * 64, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", message(666)])
def test_garbage_closes_its_connection(running: Running, capfd: pytest.CaptureFixture[str], garbage: bytes) -> None:
    with running.connect() as bad, running.connect() as good:
        assert good.ask(message(1)).batch == 1
        with pytest.raises(EOFError):
            bad.ask(garbage)
        assert good.ask(message(2)).batch == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "connection closed:" in lines[0]


def test_frames_before_the_garbage_are_answered(running: Running) -> None:
    with running.connect() as client:
        client.send(message(1) + message(2) + bytes(64))
        assert [client.receive().batch for _ in range(2)] == [1, 2]
        with pytest.raises(EOFError):
            client.receive()


def test_garbage_behind_an_answer_that_waits_is_found(running: Running) -> None:
    with running.connect() as client:
        client.send(message(1, 12 << 20))
        client.send(bytes(64))
        assert client.receive().batch == 1
        with pytest.raises(EOFError):
            client.receive()


def test_a_proxy_may_leave_at_any_point(running: Running) -> None:
    for data in (b"", message(1)[:5], message(1), message(1) * 50, message(1, 12 << 20)):
        with running.connect() as client:
            client.send(data)
    with running.connect() as client:
        assert client.ask(message(7)).batch == 7


def test_too_many_connections_are_turned_away(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    with running.connect() as first:
        assert first.ask(message(1)).batch == 1
        with running.connect() as second, pytest.raises(EOFError):
            second.receive()
        assert first.ask(message(2)).batch == 2


def test_stopping_answers_the_frame_being_run_and_no_other(running: Running) -> None:
    running.service.gate.clear()
    with running.connect() as client:
        client.send(message(1))
        assert running.service.entered.wait(30)
        client.send(message(2))
        running.loop.stop()
        running.service.gate.set()
        assert client.receive().batch == 1
        with pytest.raises(EOFError):
            client.receive()
    assert running.service.batches == [1]


def test_stopping_lets_a_large_answer_leave(running: Running) -> None:
    with running.connect() as client:
        client.send(message(1, 12 << 20))
        _until(lambda: any(connection.draining for connection in running.loop._connections.values()))
        running.loop.stop()
        assert len(client.receive().body) == 12 << 20


def test_stopping_does_not_wait_for_a_proxy_that_never_reads(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.05)
    with running.connect() as client:
        client.send(message(1, 12 << 20))
        _until(lambda: any(connection.draining for connection in running.loop._connections.values()))
        running.stop()


def test_an_orphan_serves_its_proxies_and_ends_after_them(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORPHAN_CHECK_S", 0.01)
    with running.connect() as client:
        assert client.ask(message(1)).batch == 1
        os.close(running.status_read)
        running.status_read = -1
        running.loop._parent = -1  # as if another process had adopted it
        assert client.ask(message(2)).batch == 2
    running.thread.join(30)
    assert not running.thread.is_alive()


def test_a_closed_pipe_alone_makes_no_orphan(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORPHAN_CHECK_S", 0.001)
    os.close(running.status_read)
    running.status_read = -1
    _until(lambda: running.loop._orphan)
    with running.connect() as client:
        assert client.ask(message(2)).batch == 2


def test_a_socket_left_behind_is_replaced_but_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen(path).close()
    listen(path).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen(path)
    assert path.read_text() == "precious"


def _until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.005)
    raise TimeoutError
