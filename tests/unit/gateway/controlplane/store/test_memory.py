"""What is particular to memory; the rest: tests/integration/test_store.py."""

from gateway.controlplane import audit
from gateway.controlplane.commands import Register
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store.memory import MemoryStore


async def test_what_is_handed_out_is_a_copy() -> None:
    store = MemoryStore()
    release, (fact,) = apply(unborn("iris"), Register(1), 1)
    kept = await store.commit(0, release, audit.draft(fact, actor="ada", reason="", request_id=""), None)
    (await store.releases()).clear()
    (await store.events(None, 10, None)).clear()
    assert await store.releases() == {"iris": kept}
    assert len(await store.events(None, 10, None)) == 1
    assert await MemoryStore().releases() == {}
