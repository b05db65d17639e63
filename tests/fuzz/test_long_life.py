"""One connection that lives long: whatever its calls leave behind does not add up."""

import random

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.frames import END_HEADERS, END_STREAM
from tests.fuzz.fuzz_connection import LIMITS, MEMORY_BYTES
from tests.fuzz.memory import held_bytes
from tests.unit.gateway.transport.h2.peer import Peer, data, message, reset, settings, window_update

KEEP = (":path", "/test.Echo/Keep")


def begin(peer: Peer, stream_id: int) -> bytes:
    """The beginning of a message that needs a share of the budget for uploads."""
    start = message(bytes(140_000))
    pieces = [data(stream_id, start[at : at + 16_000], end=False) for at in range(0, 64_000, 16_000)]
    return peer.headers(stream_id) + b"".join(pieces)


def live(peer: Peer, chance: random.Random, stream_id: int) -> None:
    """One call that ends, in one of the ways that calls end."""
    match chance.randrange(9):
        case 0:
            peer.send(peer.request(stream_id, b"x" * chance.randrange(300)))
        case 1:
            peer.send(peer.request(stream_id, b"", ("x-request-id", str(chance.random()))))
        case 2:
            peer.send(begin(peer, stream_id), data(stream_id, b""))
        case 3:
            peer.send(begin(peer, stream_id), reset(stream_id))
        case 4:
            call = peer.keep(stream_id)
            peer.send(window_update(stream_id, chance.randrange(1, 1000)))
            call.reply(bytes(chance.randrange(100_000)), NO_TRAILERS)
            peer.send(window_update(stream_id, 100_000), window_update(0, 100_000))
        case 5:
            call = peer.keep(stream_id)
            peer.send(window_update(stream_id, 5), reset(stream_id))
            call.reply(b"late", NO_TRAILERS)
        case 6:
            peer.send(peer.headers(stream_id), window_update(stream_id, 9), window_update(stream_id, 0))
        case 7:
            peer.send(peer.headers(stream_id, (":path", f"/no.Such/{chance.random()}"), flags=END_HEADERS | END_STREAM))
        case _:
            window = settings(initial_window_size=chance.randrange(1000, 100_000))
            peer.send(window, peer.headers(stream_id), reset(stream_id))
    peer.service.kept.clear()
    peer.service.resolved.clear()


@pytest.mark.parametrize("calls", [1500, pytest.param(30_000, marks=pytest.mark.slow)])
def test_memory_stays_bounded(calls: int) -> None:
    peer, chance = Peer(LIMITS), random.Random(5)  # noqa: S311 - reproducible, not secret
    for stream_id in (1, 3):  # one upload that has its share and stalls, one that waits for it
        peer.send(begin(peer, stream_id))
    sizes = []
    stream_id = 5
    for number in range(calls):
        live(peer, chance, stream_id)
        stream_id += chance.choice((2, 2, 2, 8))
        peer.now_s += 10.0
        peer.connection.sender.window_bytes = 65_535  # as if the peer gave back what it took
        if number % 250 == 249:
            sizes.append(held_bytes(peer.connection, peer.service, LIMITS))
    assert not peer.connection.finished
    assert peer.works(stream_id)
    assert max(sizes) <= MEMORY_BYTES
    assert sizes[-1] <= max(sizes[: len(sizes) // 2]) * 1.2 + 20_000, "it grows and grows"
