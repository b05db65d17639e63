import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2 import protocol
from gateway.transport.h2.flows import TURN_MESSAGES
from gateway.transport.h2.frames import PREFACE, FrameType, frame
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.protocol import H2Protocol
from tests.unit.gateway.transport.h2.peer import (
    Frame,
    Peer,
    Recorder,
    data,
    kinds,
    message,
    only,
    settings,
    split,
    window_update,
)


class Wire(asyncio.Transport):
    """A transport that writes into a list."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ended = False
        self.aborted = False
        self.high = 0
        self.buffered_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.buffered_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0


class Client:
    """A protocol on a Wire, and a Peer to make and read frames."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.peer = Peer(greet=False)
        self.service = Recorder()
        self.wire = Wire()
        self.members: list[H2Protocol] = []
        loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.protocol = H2Protocol(self.service, limits or Limits(), loop, self._changed, self.counters)
        self.protocol.connection_made(self.wire)

    def _changed(self, member: H2Protocol, opened: bool) -> None:
        self.members.append(member) if opened else self.members.remove(member)

    def send(self, *pieces: bytes) -> list[Frame]:
        self.protocol.data_received(b"".join(pieces))
        return self.read()

    def read(self) -> list[Frame]:
        output = b"".join(self.wire.writes)
        self.wire.writes.clear()
        return split(output)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    made.send(PREFACE, settings())
    yield made
    made.protocol.connection_lost(None)


async def turn() -> None:
    """Lets everything scheduled so far run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def test_answers_given_at_once_leave_in_one_write(client: Client) -> None:
    client.protocol.data_received(b"".join(client.peer.request(stream_id) for stream_id in (1, 3, 5)))
    assert len(client.wire.writes) == 1
    assert len(client.read()) == 9


async def test_later_answers_of_one_turn_leave_in_one_write(client: Client) -> None:
    keep = (":path", "/test.Echo/Keep")
    assert client.send(*[client.peer.request(stream_id, b"x", keep) for stream_id in (1, 3, 5)]) == []
    for call in client.service.kept:
        call.reply(b"late", NO_TRAILERS)
    assert client.wire.writes == []
    await turn()
    assert len(client.wire.writes) == 1
    assert len(client.read()) == 9


async def test_nothing_is_written_to_a_full_socket(client: Client) -> None:
    assert client.wire.high > 0
    client.protocol.pause_writing()
    ping = frame(FrameType.PING, 0, 0, bytes(8))
    assert client.send(client.peer.request(1), ping) == []
    await turn()
    assert client.read() == []
    client.protocol.resume_writing()
    await turn()
    assert kinds(client.read()) == ["PING", "HEADERS", "DATA", "HEADERS"]


async def test_large_replies_leave_turn_by_turn(client: Client) -> None:
    client.send(settings(initial_window_size=2**30), window_update(0, 2**30))
    client.send(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    client.service.kept[0].reply(bytes(1 << 20), NO_TRAILERS)
    await until(lambda: client.protocol._connection.idle)
    assert len(client.wire.writes) > 3
    assert max(map(len, client.wire.writes)) < 400_000
    assert len(client.peer.answers(client.read())[1][0]) == (1 << 20) + 5


async def test_tiny_messages_that_are_answered_at_once_take_one_turn_after_the_other(client: Client) -> None:
    """Each answer asks for another turn, and so does what is left: were both granted, turns would double and double."""
    client.send(settings(initial_window_size=2**30), window_update(0, 2**30))
    client.send(client.peer.headers(1, (":path", "/test.Echo/Chat")))
    client.send(data(1, message(b"") * 20 * TURN_MESSAGES, end=False))
    for _ in range(15):
        client.wire.writes.clear()
        await asyncio.sleep(0)
        assert len(client.wire.writes) <= 1
    assert client.protocol._connection._flows.stirred
    await until(lambda: not client.protocol._connection._flows.stirred)


async def test_a_fault_says_goodbye_and_lingers(client: Client) -> None:
    goaway = only(client.send(frame(FrameType.DATA, 0, 0)), FrameType.GOAWAY)
    assert goaway.code == 1
    assert client.wire.ended
    assert not client.wire.aborted
    assert client.send(b"more") == []
    client.protocol.drain()
    client.protocol.close()
    assert client.read() == []


async def test_who_ignores_the_goodbye_is_cut_off() -> None:
    client = Client(Limits(linger_s=0.0))
    client.send(PREFACE, settings())
    client.send(frame(FrameType.DATA, 0, 0))
    await until(lambda: client.wire.aborted)
    client.protocol.connection_lost(None)


async def test_who_does_not_introduce_himself_is_cut_off() -> None:
    client = Client(Limits(handshake_timeout_s=5.0))
    cut = []
    for _ in range(6):
        client.protocol.sweep(1.0)
        cut.append(client.wire.aborted)
    assert cut == [False] * 5 + [True]
    client.protocol.connection_lost(None)
    assert client.members == []


async def test_a_lost_connection_cancels_its_calls(client: Client) -> None:
    client.send(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    (call,) = client.service.kept
    client.protocol.connection_lost(ConnectionResetError())
    assert call.closed
    call.reply(b"", NO_TRAILERS)
    await turn()
    assert client.read() == []
    client.members.append(client.protocol)


async def test_draining_finishes_what_is_in_flight(client: Client) -> None:
    client.send(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    client.protocol.drain()
    goaway, ping = client.read()
    assert goaway.kind == FrameType.GOAWAY
    assert kinds(client.send(frame(FrameType.PING, 1, 0, ping.payload))) == ["GOAWAY"]
    assert not client.wire.ended
    client.service.kept[0].reply(b"done", NO_TRAILERS)
    await turn()
    assert client.peer.answers(client.read())[1][0] == message(b"done")
    assert client.wire.ended


async def test_who_does_not_answer_the_drain_is_left_all_the_same(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "DRAIN_ANSWER_S", 0.0)
    client.protocol.drain()
    assert kinds(client.send(client.peer.request(1))) == ["GOAWAY", "PING", "HEADERS", "DATA", "HEADERS"]
    await until(lambda: client.wire.ended)
    assert kinds(client.read()) == ["GOAWAY"]


async def test_an_idle_connection_is_closed_gracefully() -> None:
    client = Client(Limits(idle_timeout_s=60.0))
    client.send(PREFACE, settings())
    for _ in range(61):
        assert client.read() == []
        client.protocol.sweep(1.0)
    goaway, ping = client.read()
    assert (goaway.payload, ping.kind) == (b"\x7f\xff\xff\xff" + bytes(4) + b"max_idle", FrameType.PING)
    assert kinds(client.send(frame(FrameType.PING, 1, 0, ping.payload))) == ["GOAWAY"]
    assert client.wire.ended
    assert client.counters.take() == {"idle": 1}
    client.protocol.connection_lost(None)


async def test_an_old_connection_finishes_its_calls_within_the_grace() -> None:
    client = Client(Limits(max_age_s=100.0, max_age_grace_s=30.0))
    client.send(PREFACE, settings())
    client.send(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    client.send(client.peer.request(3, b"", (":path", "/test.Echo/Keep")))
    for _ in range(111):
        client.protocol.sweep(1.0)
    goaway, ping = client.read()
    assert goaway.payload[8:] == b"max_age"
    client.send(frame(FrameType.PING, 1, 0, ping.payload))
    client.service.kept[0].reply(b"in time", NO_TRAILERS)
    await turn()
    assert client.peer.answers(client.read())[1][0] == message(b"in time")
    for _ in range(32):
        client.protocol.sweep(1.0)
    assert only(client.read(), FrameType.GOAWAY).payload[8:] == b"max_age_grace"
    assert client.service.kept[1].closed
    assert client.wire.ended
    assert client.counters.take() == {"age": 1, "age_grace": 1}
    client.protocol.connection_lost(None)


async def test_what_a_full_socket_has_not_taken_is_held(client: Client) -> None:
    client.wire.buffered_bytes = 300_000
    client.protocol.pause_writing()
    assert client.protocol.held_bytes == 300_000
    client.protocol.resume_writing()
    assert client.protocol.held_bytes == 0


@pytest.mark.parametrize("paused", [False, True])
async def test_who_holds_too_much_is_sent_away(paused: bool) -> None:
    client = Client()
    client.send(PREFACE, settings())
    client.send(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    if paused:
        client.wire.buffered_bytes = 300_000
        client.protocol.pause_writing()
    client.protocol.shed()
    assert client.wire.aborted == paused, "who does not read need not be told"
    assert kinds(client.read()) == ([] if paused else ["GOAWAY"])
    assert client.service.kept[0].closed
    assert client.protocol.held_bytes == 0
    assert client.counters.take() == {"memory": 1}
    client.protocol.connection_lost(None)


async def test_half_closed_peers_are_closed() -> None:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    members: list[H2Protocol] = []

    def changed(member: H2Protocol, opened: bool) -> None:
        members.append(member) if opened else members.remove(member)

    await loop.connect_accepted_socket(lambda: H2Protocol(Recorder(), Limits(), loop, changed), ours)
    assert len(members) == 1
    theirs.sendall(PREFACE)
    theirs.shutdown(socket.SHUT_WR)
    await until(lambda: not members)
    theirs.close()
