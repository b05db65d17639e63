"""The proxy's watchdog beside the worker's loop: who works for others does not hang."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.dataplane.channel import Channel
from gateway.dataplane.job import Batch
from tests.frames import frame
from tests.unit.gateway.dataplane.fakes import until
from workers import loop as module
from workers import wire
from workers.loop import Loop, listen
from workers.service import Service
from workers.slots import Slots
from workers.tensors import Bytes

LIMIT_S = 600.0


class Slow(Service):
    """Each run lasts until the test lets it end."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends = threading.Semaphore(0)

    def answer(self, buffer: Bytes, start: int, stop: int, slots: Slots | None = None) -> list[Any]:
        self.begun += 1
        self.ends.acquire()
        return [wire.HEADER.pack(0, wire.HEADER.unpack_from(buffer, start)[1], wire.RESULT, 0, 0, 0)]


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(module, "ALIVE_EVERY_S", -1.0)
    monkeypatch.setattr(module, "perf_counter", lambda: 1.0)  # equal use: turns in the order of arrival
    service = Slow()
    status_fds = os.pipe()
    loop = Loop(service, listen(tmp_path / "worker"), status_fds[1])
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield service
    loop.stop()
    service.ends.release(100)
    thread.join(30)
    assert not thread.is_alive()
    for fd in status_fds:
        os.close(fd)


async def test_a_worker_that_works_for_another_proxy_does_not_hang(slow: Slow, tmp_path: Path) -> None:
    answered: list[int] = []
    slow.ends.release(3)
    first, second, third = [await _channel(tmp_path, answered) for _ in range(3)]
    answered.clear()
    first.send(_batch(1, answered), monotonic())
    await until(lambda: slow.begun == 4)
    second.send(_batch(2, answered), monotonic())
    third.send(_batch(3, answered), monotonic())
    until_s = monotonic() + LIMIT_S
    assert third.hangs(until_s, LIMIT_S), "should it hear nothing"
    slow.ends.release()
    await until(lambda: not third.hangs(until_s, LIMIT_S))
    assert answered == [1], "the second is run"
    assert third.hangs(until_s + LIMIT_S, LIMIT_S), "should it hear nothing more"
    slow.ends.release(2)
    await until(lambda: answered == [1, 2, 3])
    for channel in (first, second, third):
        channel.retire()


async def _channel(folder: Path, answered: list[int]) -> Channel:
    """One that the worker has answered before."""
    channel = Channel("worker", lambda: None, lambda _: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, str(folder / "worker"))
    before = len(answered)
    channel.send(_batch(0, answered), monotonic())
    await until(lambda: len(answered) > before)
    return channel


def _batch(number: int, answered: list[int]) -> Batch:
    def note(batch: Batch, *_: object) -> None:
        answered.append(batch.number)

    return Batch(frame(wire.RUN, number, bytes(wire.SECTION.size + 2)), 1, [], note, note, note)
