import asyncio
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane import channel as channels
from gateway.dataplane.channel import DEPTH, SLOW_US, Channel
from gateway.dataplane.job import Batch, Data
from gateway.dataplane.slots import LAYOUT, Slots
from tests.unit.gateway.dataplane.fakes import (
    ACCEPTED,
    FakeTransport,
    SocketWorker,
    begun,
    error,
    frame,
    in_slot,
    until,
)
from workers import wire


class Spy:
    """A channel with everything it tells."""

    def __init__(self, *, up: bool = True) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.free = 0
        self.gone: list[Channel] = []
        self.channel = Channel("worker", self._free, self.gone.append)
        self.transport = FakeTransport()
        if up:
            self.channel.connection_made(self.transport)
            self.free = 0

    def _free(self) -> None:
        self.free += 1

    def share(self) -> Slots:
        """The worker takes part in shared memory."""
        slots = self.channel.slots = Slots(0)
        self.channel.data_received(ACCEPTED)
        return slots

    def send(self, number: int, *, exclusive: bool = False) -> Batch:
        sent = Batch(frame(number, wire.RUN, b""), 1, [], self._answer, self._error, self._lost)
        sent.exclusive = exclusive
        sent.slot = self.channel.take_slot()
        self.channel.send(sent, 5.0)
        return sent

    def _answer(self, batch: Batch, kind: int, micros: int, data: Data, start: int, stop: int) -> None:
        self.told.append((batch.number, kind, micros, bytes(data[start:stop])))

    def _error(self, batch: Batch, code: int, text: str) -> None:
        self.told.append((batch.number, code, text))

    def _lost(self, batch: Batch) -> None:
        self.told.append((batch.number, "lost"))


def test_a_batch_goes_out_and_its_answer_comes_back() -> None:
    spy = Spy()
    batch = spy.send(1)
    assert batch.sent_s == 5.0
    assert bytes(spy.transport.written) == batch.frame
    spy.channel.data_received(frame(1, wire.RESULT, b"body", micros=9))
    assert spy.told == [(1, wire.RESULT, 9, b"body")]
    assert spy.free == 1
    assert not spy.channel.in_flight


def test_an_error_frame_carries_code_and_text() -> None:
    spy = Spy()
    spy.send(1)
    spy.channel.data_received(error(1, "käse", 3))
    assert spy.told == [(1, 3, "käse")]


def test_there_is_room_for_one_more_than_runs() -> None:
    spy = Spy()
    assert spy.channel.has_room(exclusive=True)
    for number in range(DEPTH):
        assert spy.channel.has_room(exclusive=False)
        spy.send(number)
        assert not spy.channel.has_room(exclusive=True)
    assert not spy.channel.has_room(exclusive=False)


def test_behind_a_slow_batch_the_next_waits_in_the_lane() -> None:
    spy = Spy()
    rooms = []
    for number, answer in enumerate(
        [
            frame(1, wire.RESULT, b"", micros=SLOW_US),
            error(2),
            frame(3, wire.RESULT, b"", micros=SLOW_US - 1),
            frame(4, wire.COMPARED, b"", micros=SLOW_US),
        ],
        start=1,
    ):
        spy.send(number)
        rooms.append(spy.channel.has_room(exclusive=False))
        spy.channel.data_received(answer)
        assert spy.channel.has_room(exclusive=False), "idle"
    spy.send(5)
    rooms.append(spy.channel.has_room(exclusive=False))
    assert rooms == [True, False, False, True, False], "an error says nothing of the time"


def test_nothing_joins_an_exclusive_batch() -> None:
    spy = Spy()
    spy.send(1, exclusive=True)
    assert not spy.channel.has_room(exclusive=False)
    spy.channel.data_received(frame(1, wire.RESULT, b""))
    assert spy.channel.has_room(exclusive=False)


def test_before_the_connection_there_is_no_room() -> None:
    spy = Spy(up=False)
    assert not spy.channel.connected
    assert not spy.channel.has_room(exclusive=False)
    spy.channel.connection_made(spy.transport)
    assert spy.free == 1
    assert spy.channel.has_room(exclusive=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=2 * DEPTH), st.lists(st.integers(1, 30), min_size=1))
def test_answers_arrive_whole_over_any_chunks(bodies: list[bytes], cuts: list[int]) -> None:
    spy = Spy()
    for number in range(len(bodies)):
        spy.send(number)
    stream = b"".join(frame(number, wire.RESULT, body, micros=number) for number, body in enumerate(bodies))
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        spy.channel.data_received(stream[position : position + size])
        position += size
        turn += 1
    assert spy.told == [(number, wire.RESULT, number, body) for number, body in enumerate(bodies)]


def test_a_large_answer_in_many_pieces() -> None:
    spy = Spy()
    body = bytes(range(256)) * 4096
    spy.send(1)
    stream = frame(1, wire.RESULT, body)
    for position in range(0, len(stream), 65_536):
        spy.channel.data_received(stream[position : position + 65_536])
    assert spy.told == [(1, wire.RESULT, 0, body)]


@pytest.mark.parametrize("answer", [frame(7, wire.RESULT, b"x"), error(2)])
def test_an_answer_to_another_batch_closes_the_connection(answer: bytes) -> None:
    spy = Spy()
    spy.send(1)
    spy.send(2)
    spy.channel.data_received(answer)
    assert spy.told == []
    assert spy.transport.is_closing()
    assert not spy.channel.has_room(exclusive=False)
    assert not spy.channel.connected
    spy.channel.connection_lost(None)
    assert spy.told == [(2, "lost"), (1, "lost")], "the newest first, as the lane puts them back at the front"
    assert spy.gone == [spy.channel]


@pytest.mark.parametrize("sent", [0, 1])
def test_garbage_that_claims_to_be_long_is_not_waited_for(sent: int) -> None:
    spy = Spy()
    for number in range(sent):
        spy.send(number)
    spy.channel.data_received(b"\xee" * wire.HEADER.size)
    assert spy.transport.is_closing()


def test_an_answer_to_nothing_closes_the_connection() -> None:
    spy = Spy()
    spy.channel.data_received(frame(1, wire.RESULT, b""))
    assert spy.told == []
    assert spy.transport.is_closing()


def test_a_retired_channel_ends_when_nothing_is_in_flight() -> None:
    spy = Spy()
    spy.send(1)
    spy.channel.retire()
    assert not spy.channel.has_room(exclusive=False)
    assert not spy.transport.is_closing()
    spy.channel.data_received(frame(1, wire.RESULT, b"late but well"))
    assert spy.told == [(1, wire.RESULT, 0, b"late but well")]
    assert spy.transport.is_closing()
    assert spy.free == 0


def test_an_idle_channel_retires_at_once() -> None:
    spy = Spy()
    spy.channel.retire()
    assert spy.transport.is_closing()


def test_a_channel_retired_while_it_connects_is_closed_then() -> None:
    spy = Spy(up=False)
    spy.channel.retire()
    assert not spy.transport.is_closing()
    spy.channel.connection_made(spy.transport)
    assert spy.transport.is_closing()
    assert spy.free == 0


async def test_over_a_real_socket(tmp_path: Path) -> None:
    spy = Spy(up=False)
    async with SocketWorker(tmp_path / "w", lambda asked: frame(asked.number, wire.RESULT, b"hello")) as worker:
        await asyncio.get_running_loop().create_unix_connection(lambda: spy.channel, worker.address)
        for number in (1, 2):
            spy.send(number)
        await until(lambda: len(spy.told) == 2)
        assert spy.told == [(1, wire.RESULT, 0, b"hello"), (2, wire.RESULT, 0, b"hello")]
        worker.answer = lambda _: b""
        spy.send(3)
        await until(lambda: spy.gone)
        assert spy.told[2:] == [(3, "lost")]


def test_a_worker_hangs_that_has_work_and_gives_no_answer() -> None:
    spy = Spy()
    assert not spy.channel.hangs(1e9, 1.0), "it has nothing to do"
    spy.send(1)  # at 5.0
    spy.send(2)
    assert not spy.channel.hangs(5.9, 1.0)
    assert spy.channel.hangs(6.1, 1.0)
    assert not spy.channel.hangs(1e9, 0), "0: for ever"
    spy.channel.data_received(frame(1, wire.RESULT, b""))
    assert not spy.channel.hangs(monotonic(), 60.0), "an answer is progress"
    spy.channel.abort()
    assert not spy.channel.has_room(exclusive=False)


def test_a_worker_does_not_hang_that_works_for_other_proxies() -> None:
    spy = Spy()
    spy.send(1)  # at 5.0
    now_s = monotonic()
    assert spy.channel.hangs(now_s, 60.0)
    spy.channel.data_received(frame(0, wire.ALIVE, b""))
    assert not spy.channel.hangs(now_s, 60.0)
    assert spy.channel.hangs(now_s + 120, 60.0), "it said so once only"
    assert spy.told == [], "its batch is not answered"
    spy.channel.data_received(frame(1, wire.RESULT, b""))
    spy.channel.data_received(frame(0, wire.ALIVE, b""))
    assert spy.told == [(1, wire.RESULT, 0, b"")]


def test_a_batch_in_flight_can_be_cancelled_and_is_answered_all_the_same() -> None:
    spy = Spy()
    first, second = spy.send(1), spy.send(2)
    spy.transport.written.clear()
    spy.channel.cancel(second)
    assert bytes(spy.transport.written) == frame(2, wire.CANCEL, b"")
    spy.channel.data_received(frame(1, wire.RESULT, b"") + error(2, "not run", 1))
    assert spy.told == [(1, wire.RESULT, 0, b""), (2, 1, "not run")]
    spy.transport.written.clear()
    spy.channel.cancel(first)
    spy.channel.cancel(second)
    assert not spy.transport.written, "neither is in flight any more"


def test_without_a_worker_nothing_is_cancelled() -> None:
    spy = Spy()
    sent = spy.send(1)
    spy.channel.connection_lost(None)
    spy.channel.cancel(sent)
    assert spy.told == [(1, "lost")]


def test_a_batch_that_has_begun_is_still_in_flight() -> None:
    spy = Spy()
    sent = spy.send(1, exclusive=True)
    spy.channel.data_received(begun(1))
    assert (sent.begun, spy.told, list(spy.channel.in_flight)) == (True, [], [sent])
    spy.transport.written.clear()
    spy.channel.cancel(sent)
    assert not spy.transport.written, "it is too late"
    spy.channel.data_received(frame(1, wire.RESULT, b""))
    assert spy.told == [(1, wire.RESULT, 0, b"")]


def test_garbage_is_laid_at_the_door_of_what_was_alone() -> None:
    for exclusive in (True, False):
        spy = Spy()
        sent = spy.send(1, exclusive=exclusive)
        spy.channel.data_received(frame(9, wire.RESULT, b""))
        assert sent.begun == exclusive


def test_another_batch_than_the_oldest_cannot_begin() -> None:
    spy = Spy()
    spy.send(1)
    spy.send(2)
    spy.channel.data_received(begun(2))
    assert spy.transport.is_closing()


def free(slots: Slots) -> list[int]:
    return sorted(slot.number for slot in slots.free)


def test_without_shared_memory_no_batch_has_a_slot() -> None:
    spy = Spy()
    spy.channel.tidy()
    assert spy.send(1).slot is None


def test_a_batch_has_its_slot_until_it_is_answered() -> None:
    spy = Spy()
    slots = spy.share()
    batches = [spy.send(number) for number in (1, 2)]
    assert [batch.slot and batch.slot.number for batch in batches] == [1, 2]
    spy.channel.data_received(in_slot(slots, 1, frame(1, wire.RESULT, b"large", micros=9)))
    spy.channel.data_received(error(2))
    assert spy.told == [(1, wire.RESULT, 9, b"large"), (2, 13, "the model raised")]
    assert free(slots) == [1, 2, 3]
    spy.channel.tidy()
    spy.channel.connection_lost(None)
    assert slots.closed


def test_whoever_holds_a_batch_gives_its_slot_back() -> None:
    spy = Spy()
    slots = spy.share()
    batch = spy.send(1)
    batch.held = True
    spy.channel.data_received(frame(1, wire.RESULT, b"small"))
    assert free(slots) == [2, 3]
    batch.release()
    batch.release()
    assert free(slots) == [1, 2, 3]
    spy.channel.connection_lost(None)


def test_an_offer_that_is_declined_is_withdrawn() -> None:
    spy = Spy()
    slots = spy.channel.slots = Slots(0)
    spy.channel.data_received(wire.HEADER.pack(0, 0, wire.ATTACH, 0, 0, 0))
    assert slots.closed
    assert not spy.transport.is_closing()
    assert spy.send(1).slot is None


def test_an_answer_to_no_offer_closes_the_connection() -> None:
    spy = Spy()
    spy.channel.data_received(ACCEPTED)
    assert spy.transport.is_closing()
    twice = Spy()
    slots = twice.share()
    batch = twice.send(1)
    twice.channel.data_received(ACCEPTED)
    assert twice.transport.is_closing()
    assert batch.slot not in slots.free
    twice.channel.connection_lost(None)


@pytest.mark.parametrize("place", [b"", wire.PLACE.pack(2, 1), wire.PLACE.pack(0, LAYOUT.slot_bytes + 1)])
def test_an_answer_that_lies_nowhere_closes_the_connection(place: bytes) -> None:
    spy = Spy()
    spy.share()
    spy.send(1)
    spy.channel.data_received(frame(1, wire.RESULT, place, flags=wire.SLOT))
    assert spy.told == []
    assert spy.transport.is_closing()
    spy.channel.connection_lost(None)
    assert spy.told == [(1, "lost")]


def test_an_answer_in_a_slot_nobody_lent_closes_the_connection() -> None:
    spy = Spy()
    spy.send(1)
    spy.channel.data_received(frame(1, wire.RESULT, wire.PLACE.pack(0, 1), flags=wire.SLOT))
    assert spy.told == []
    assert spy.transport.is_closing()


def test_behind_garbage_nothing_is_read() -> None:
    spy = Spy()
    spy.send(1)
    spy.channel.data_received(frame(2, wire.RESULT, b"") + frame(1, wire.RESULT, b"well formed"))
    assert spy.told == []
    spy.channel.connection_lost(None)
    assert spy.told == [(1, "lost")]


def test_an_answer_that_cannot_be_taken_is_answered_and_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a mistake")

    failed: list[tuple[int, str]] = []
    monkeypatch.setattr(channels, "misfit", lambda batch, what, _: failed.append((batch.number, what)))
    spy = Spy()
    slots = spy.share()
    batch = spy.send(1)
    spy.send(2)
    batch.on_answer = fails
    spy.channel.data_received(frame(1, wire.RESULT, b"") + frame(2, wire.RESULT, b""))
    assert failed == [(1, "RuntimeError('a mistake')")]
    assert free(slots) == [1, 3], "the first batch's slot is free again"
    assert spy.transport.is_closing()
    spy.channel.connection_lost(None)
    assert spy.told == [(2, "lost")]
