import asyncio

import pytest

from gateway.transport.grpcio import idle as module
from gateway.transport.grpcio.idle import Idle
from tests.unit.gateway.transport.grpcio.fake import until


async def test_it_is_called_once_when_nothing_happened() -> None:
    heard: list[str] = []
    Idle(0.001, lambda: heard.append("idle"))
    await until(lambda: heard)
    await asyncio.sleep(0.005)
    assert heard == ["idle"]


async def test_what_happens_puts_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, heard = [100.0], list[float]()
    monkeypatch.setattr(module, "monotonic", lambda: now_s[0])
    idle = Idle(10.0, lambda: heard.append(now_s[0]))
    now_s[0] = 109.0
    idle.touch()
    now_s[0] = 110.0
    idle._look()
    assert heard == []
    now_s[0] = 119.0
    idle._look()
    assert heard == [119.0]
    idle.stop()


async def test_it_is_silent_once_stopped() -> None:
    heard: list[str] = []
    Idle(0.001, lambda: heard.append("idle")).stop()
    await asyncio.sleep(0.01)
    assert heard == []
