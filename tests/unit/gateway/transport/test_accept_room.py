"""Who finds no room, who makes room, and who leaves at a bad moment."""

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket

import pytest

from gateway.transport import accept
from gateway.transport.arrival import PLAIN, Door
from tests.proxied import v2
from tests.unit.gateway.transport.house import AUTHORITY, House, ended


async def test_strangers_count_and_newcomers_are_cut_while_they_are_young(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "STRANGER_S", 3600.0)
    house.open(tls, most=2)
    await house.connect()
    await house.connect()
    await house.holds(2)
    reader, _ = await house.connect()
    await ended(reader)
    assert house.counts == {"connections": 1}
    assert house.acceptor.open == 2


@pytest.mark.parametrize("plain", [False, True])
async def test_an_old_stranger_makes_room_and_who_is_known_does_not(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(accept, "STRANGER_S", 0.0)
    house.open(PLAIN if plain else tls, most=2)
    context = None if plain else AUTHORITY.client_context()
    await house.says(b"hello", b"hello", context)
    silent, _ = await house.connect()
    await house.holds(2)
    await house.says(b"hello", b"hello", context)
    await ended(silent)
    assert house.counts == {"handshake": 1}
    reader, _ = await house.connect()
    await ended(reader)
    assert house.counts == {"handshake": 1, "connections": 1}


async def test_too_many_open_files_pause_accepting(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "PAUSE_S", 0.001)
    house.open()
    listening = house.acceptor._listening
    real = listening.popitem()[0]
    house.acceptor._loop.remove_reader(real)
    failures = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM]

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                raise OSError(failures[0], os.strerror(failures.pop(0)))
            return super().accept()

    house.acceptor.listen(Exhausted(fileno=real.detach()), PLAIN)
    await house.says(b"hello", b"hello")
    assert house.counts == {"files": 3}
    assert caplog.messages == ["cannot accept connections: Too many open files; raise the limit (ulimit -n)"]


async def test_a_guest_that_cannot_be_made(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.broken = True
    house.open()
    reader, _ = await house.connect()
    await ended(reader)
    await house.holds(0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_strangers_can_be_sent_away_at_any_moment(house: House, tls: Door) -> None:
    """Also between accept and the first step of their task."""
    house.open(Door(tls=tls.tls, proxy_protocol=True))
    waiting, writer = await house.connect()
    writer.write(v2("192.0.2.1", 4711))
    await house.holds(1)
    client = socket.create_connection(("127.0.0.1", house.port))
    house.acceptor.stop()
    assert house.acceptor.open == 2
    house.acceptor.send_strangers_away()
    await house.holds(0)
    await ended(waiting)
    client.close()


async def test_who_was_accepted_by_the_kernel_is_let_in_before_the_door_closes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "AT_ONCE", 2)
    house.open()
    clients = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(7)]
    house.acceptor.stop()
    house.acceptor.stop()
    for client in clients:
        client.sendall(b"hello")
        client.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(client, 5) == b"hello"
        client.close()


async def test_nobody_who_leaves_at_any_moment_leaves_his_place_taken(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many at once, gone within the header, the handshake or after it, or sent away for want of room."""
    monkeypatch.setattr(accept, "STRANGER_S", 0.0)
    house.open(Door(tls=tls.tls, proxy_protocol=True), most=10)
    luck = random.Random(1)  # noqa: S311 - repeatable, and guards nothing
    context = AUTHORITY.client_context()
    header = v2("192.0.2.1", 4711)

    async def visit() -> None:
        raw = socket.create_connection(("127.0.0.1", house.port))
        raw.setblocking(False)
        stop = luck.randrange(5)
        raw.send(header[: luck.randrange(len(header))] if stop == 0 else header)
        await asyncio.sleep(0)
        if stop < 2:
            raw.close()
        elif stop == 2:
            raw.send(luck.randbytes(40))
            raw.close()
        else:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="localhost")
                writer.write(b"hello" * (stop - 3))
                writer.transport.abort()

    for _ in range(10):
        await asyncio.gather(*(visit() for _ in range(20)))
    await house.holds(0)
    assert house.acceptor.open == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
