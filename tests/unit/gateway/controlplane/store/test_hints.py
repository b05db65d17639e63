"""Hints from a server that is made up; from a real one: tests/integration/test_members.py."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.controlplane.store import hints
from gateway.controlplane.store.driver import Driver
from gateway.controlplane.store.hints import CHANNEL, Hints


class FakeConnection:
    """What `Hints` needs of a connection."""

    def __init__(self) -> None:
        self.said: dict[str, Callable[..., None]] = {}
        self.listening = asyncio.Event()
        self.asked = asyncio.Event()
        self.end: Callable[[object], None] = lambda _: None

    def add_termination_listener(self, end: Callable[[object], None]) -> None:
        self.end = end

    async def add_listener(self, channel: str, heard: Callable[..., None]) -> None:
        self.said[channel] = heard
        self.listening.set()

    async def fetchval(self, _: str) -> None:
        self.asked.set()

    def terminate(self) -> None:
        self.said.clear()


class FakeDriver(Driver):
    """Fails at first."""

    def __init__(self) -> None:
        super().__init__("postgresql://db/x", None)
        self.made: asyncio.Queue[FakeConnection] = asyncio.Queue()
        self.failures = 1

    async def connect(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError
        connection = FakeConnection()
        self.made.put_nowait(connection)
        return connection


async def test_hints_reach_who_subscribes_and_the_connection_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "RETRY_S", 0.0)
    monkeypatch.setattr(hints, "CHECK_S", 0.001)
    driver = FakeDriver()
    listening = Hints(driver)
    heard: list[str] = []
    end = listening.subscribe(lambda: heard.append("first"))
    listening.subscribe(lambda: heard.append("second"))
    connection = await driver.made.get()
    await connection.asked.wait()
    assert heard == ["first", "second"], "something may have happened before"
    end()
    connection.said[CHANNEL](connection, 1, CHANNEL, "")
    assert heard[2:] == ["second"]
    connection.end(connection)
    await (await driver.made.get()).asked.wait()
    assert heard[3:] == ["second"]
    await listening.close()
    await listening.close()
    listening.resume()
    await (await driver.made.get()).asked.wait()
    assert heard[4:] == ["second"]
    await listening.close()
