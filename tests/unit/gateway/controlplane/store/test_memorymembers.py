"""What is particular to memory; the rest: tests/integration/test_members.py."""

from gateway.controlplane import audit
from gateway.controlplane.store.members import Report
from gateway.controlplane.store.memorymembers import MemoryMembers


async def test_ages_are_by_the_clock_that_was_given() -> None:
    now_s = 1_000.0
    members = MemoryMembers(clock_s=lambda: now_s)
    await members.join("a", "a1", Report())
    now_s += 2.5
    (member,) = await members.members()
    assert (member.age_s, member.heartbeat.timestamp()) == (2.5, 1_000.0)


async def test_without_a_store_no_event_is_kept() -> None:
    members = MemoryMembers()
    await members.join("a", "a1", Report())
    event = audit.Draft(*(7, "ada", "fence", "", 0, "", "", "", ""), kind=audit.ACCESS)
    assert await members.fence("a", "a1", event=event)
    assert await members.members() == []
