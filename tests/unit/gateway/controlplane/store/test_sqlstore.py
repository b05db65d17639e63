"""The methods are tested with each store: tests/integration/test_store.py."""

import asyncio

import pytest

from gateway.controlplane.store.sqlstore import SqlStore, T, Work


class Held(SqlStore):
    """A store whose transactions wait."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def _transact(self, work: Work[T]) -> T:
        return await self._to_the_end(self._wait(work))

    _write = _certain = _transact

    async def _wait(self, _: Work[T]) -> T:
        self.begun.set()
        await self.go_on.wait()
        self.ended += 1
        raise LookupError


async def test_what_has_begun_is_carried_out_whoever_leaves() -> None:
    store = Held()
    await store._finish()
    caller = asyncio.get_running_loop().create_task(store.releases())
    await store.begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    asyncio.get_running_loop().call_soon(store.go_on.set)
    await store._finish()
    assert store.ended == 1
