"""A real worker and the proxy's side of shared memory: offered, used, misused, and what is left afterwards."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.dataplane.slots import LAYOUT, Slot, Slots
from tests import frames, models
from tests.integration.worker_process import PATIENCE_S, Client, Worker
from workers import wire

THRESHOLD_BYTES = 1000


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(tmp_path_factory.mktemp("worker"), models.identity("FP32", (-1, -1))) as made:
        made.ready()
        yield made


class Sharing:
    """A connection over which memory is shared."""

    def __init__(self, worker: Worker) -> None:
        self.client: Client = worker.connect()
        self.slots = Slots(THRESHOLD_BYTES)
        self.slots.offer(self.client.socket)
        answer = self.client.receive()
        assert (answer.kind, answer.flags) == (wire.ATTACH, 1)
        self.slots.accepted()

    def send(self, batch: int, x: frames.Array, kind: int = wire.RUN) -> Slot:
        slot = self.slots.take()
        assert slot is not None
        sections = [frames.section({"X": x})] + ([frames.section({"Y": x})] if kind == wire.COMPARE else [])
        body = b"".join(sections)
        place = slot.put(b"", [body], len(body))
        header = wire.HEADER.pack(len(place or body), batch, kind, wire.SLOT if place else 0, slot.number, 0)
        self.client.send(header + (place or body))
        return slot

    def receive(self, slot: Slot) -> frames.Answer:
        answer = self.client.receive()
        if answer.flags == wire.SLOT:
            answer = answer._replace(body=bytes(slot.answer(answer.body, 0, len(answer.body))), flags=0)
        slot.give_back()
        return answer

    def close(self) -> None:
        self.client.socket.close()
        self.slots.close()


@pytest.fixture
def sharing(worker: Worker) -> Iterator[Sharing]:
    made = Sharing(worker)
    yield made
    made.close()


def descriptors(worker: Worker) -> int:
    return len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))


def mappings(worker: Worker) -> int:
    return Path(f"/proc/{worker.process.pid}/maps").read_text().count("cutover-tensors")


def eventually(check: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if check():
            return
        pause.wait(0.01)
    raise TimeoutError


def test_large_and_small_in_turns(sharing: Sharing) -> None:
    random = np.random.default_rng(0)
    for batch, columns in enumerate((300_000, 3, 250, 2_000_000, 1)):
        x = random.random((2, columns), np.float32)
        answer = sharing.receive(sharing.send(batch, x))
        assert answer.batch == batch
        np.testing.assert_array_equal(answer.tensors()["Y"], x)
        compared = sharing.receive(sharing.send(batch, x, wire.COMPARE))
        assert compared.comparison == (2, 2, 0, 0.0)


def test_batches_in_flight_lie_side_by_side(sharing: Sharing) -> None:
    inputs = [np.full((1, 100_000), number, np.float32) for number in range(3)]
    slots = [sharing.send(number, x) for number, x in enumerate(inputs)]
    for slot, x in zip(slots, inputs, strict=True):
        np.testing.assert_array_equal(sharing.receive(slot).tensors()["Y"], x)


def test_the_largest_slot_is_used_to_its_end(sharing: Sharing) -> None:
    x = np.ones((1, (LAYOUT.slot_bytes >> 2) - 64), np.float32)
    slot = sharing.send(1, x)
    assert sharing.receive(slot).tensors()["Y"].sum(dtype=np.float64) == x.size
    for _ in range(2):
        sharing.slots.tidy()
    assert os.fstat(sharing.slots.fd).st_blocks == 0


@pytest.mark.parametrize(
    ("slot", "place"),
    [
        (1, wire.PLACE.pack(0, LAYOUT.slot_bytes + 1)),
        (1, wire.PLACE.pack(1, 0)),
        (9, wire.PLACE.pack(0, 100)),
        (1, wire.PLACE.pack(0, 100)),
    ],
)
def test_a_place_that_holds_no_section_closes_its_connection_only(
    worker: Worker, sharing: Sharing, slot: int, place: bytes
) -> None:
    eventually(lambda: mappings(worker) == 1)
    before = descriptors(worker)
    bad = Sharing(worker)
    with pytest.raises(EOFError):
        bad.client.ask(wire.HEADER.pack(len(place), 1, wire.RUN, wire.SLOT, slot, 0) + place)
    bad.close()
    x = np.ones((1, 1000), np.float32)
    np.testing.assert_array_equal(sharing.receive(sharing.send(1, x)).tensors()["Y"], x)
    eventually(lambda: descriptors(worker) == before)


def test_memory_that_could_shrink_is_not_taken(worker: Worker) -> None:
    eventually(lambda: mappings(worker) == 0)
    before = descriptors(worker)
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, LAYOUT.size)
    body = wire.MEMORY.pack(LAYOUT.slots, 1, LAYOUT.slot_bytes)
    with worker.connect() as client:
        socket.send_fds(client.socket, [wire.HEADER.pack(len(body), 0, wire.ATTACH, 0, 0, 0) + body], [fd])
        with pytest.raises(EOFError):
            client.receive()
    os.close(fd)
    eventually(lambda: descriptors(worker) == before)
    assert "not sealed" in worker.stderr.read_text()


def test_nothing_is_left_of_proxies_that_went(worker: Worker) -> None:
    eventually(lambda: mappings(worker) == 0)
    before = descriptors(worker)
    gone = [Sharing(worker) for _ in range(5)]
    for number, each in enumerate(gone):
        each.send(number, np.ones((1, 1000), np.float32))
    assert mappings(worker) == 5
    for each in gone:
        each.close()
    eventually(lambda: (descriptors(worker), mappings(worker)) == (before, 0))
