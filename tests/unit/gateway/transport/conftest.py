import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from gateway.transport.arrival import Door
from gateway.transport.tls import TlsFiles, load
from tests.unit.gateway.transport.house import AUTHORITY, House

ON_BOTH_LOOPS = ("test_accept.py", "test_accept_room.py", "test_server.py", "test_tls.py")
"""Tests of what asks much of an event loop: uvloop is what serves, asyncio is what is documented."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which event loops a test runs on."""
    usual: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    return {**usual, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else usual


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Closed when its guests have left, as it has to be."""
    made = House()
    yield made
    for client in made.clients:
        client.transport.abort()
    await made.holds(0)
    made.acceptor.stop()
    assert made.acceptor.empty.is_set()
    assert not made.acceptor._tasks
    assert not made.acceptor._strangers


@pytest.fixture
def tls(tmp_path: Path) -> Door:
    """Ends TLS, and wants no certificate."""
    context = load(TlsFiles(*AUTHORITY.server().write(tmp_path / "server"))).context
    return Door(tls=lambda: context)
