"""The lines of a backup: whatever happens to them on their way is noticed."""

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane import audit
from gateway.controlplane.commands import Register
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Token, backup
from gateway.errors import InvalidRequest

RELEASE, (FACT,) = apply(unborn("iris"), Register(1), 1)
DRAFT = audit.draft(FACT, actor="ada", reason="Ünïcødé 😊", request_id="id")
FIRST = audit.link(audit.GENESIS, 1, DRAFT)
RECORDS: list[backup.Record] = [
    Token("a", "00", {"*": "owner"}, "root", 1),
    backup.Answered("id", "print", 5, RELEASE),
    backup.Revision(RELEASE),
    backup.Event(FIRST),
    backup.Event(audit.link(FIRST.hash, 2, DRAFT)),
]


async def lines(records: list[backup.Record]) -> list[bytes]:
    async def each() -> AsyncIterator[backup.Record]:
        for record in records:
            yield record

    return [line async for line in backup.written(each())]


async def test_what_is_written_is_read() -> None:
    written = await lines(RECORDS)
    assert list(backup.read(written)) == RECORDS
    assert [line.count(b"\n") for line in written] == [1] * 7
    assert list(backup.read(await lines([]))) == []


Damage = Callable[[list[bytes], int], list[bytes]]
DAMAGES: dict[str, Damage] = {
    "lost": lambda whole, at: [*whole[:at], *whole[at + 1 :]],
    "doubled": lambda whole, at: [*whole[: at + 1], *whole[at:]],
    "cut off": lambda whole, at: whole[:at],
    "cut in the middle": lambda whole, at: [*whole[:at], whole[at][:-3]],
    "swapped": lambda whole, at: [*whole[:at], *reversed(whole[at : at + 2]), *whole[at + 2 :]],
    "changed": lambda whole, at: [*whole[:at], whole[at].replace(b"1", b"2").replace(b"0", b"1"), *whole[at + 1 :]],
}


@given(damage=st.sampled_from(sorted(DAMAGES)), at=st.integers(0, 6))
async def test_any_damage_is_noticed(damage: str, at: int) -> None:
    whole = await lines(RECORDS)
    damaged = DAMAGES[damage](whole, at)
    if damaged == whole:
        return
    with pytest.raises(InvalidRequest, match="backup"):
        list(backup.read(damaged))


async def test_an_event_out_of_the_chain_is_named() -> None:
    with pytest.raises(InvalidRequest, match="line 2 of the backup: audit event 1 is missing: 2 follows 0"):
        list(backup.read(await lines(RECORDS[4:])))


def test_a_newer_format_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"newer Cutover \(format 2, this one knows 1\): use that"):
        list(backup.read([b'{"line":"cutover backup","format":2}\n']))
