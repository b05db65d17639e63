"""What is known of tokens, with and without a store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.controlplane.access import keeper as keeping
from gateway.controlplane.access import tokens
from gateway.controlplane.access.keeper import Access, Keeper
from gateway.controlplane.access.roles import ALL, Role, Roles
from gateway.controlplane.audit import ACCESS, REFUSAL, AuditEvent, Draft
from gateway.controlplane.store import Token
from gateway.controlplane.store.memory import MemoryStore
from gateway.errors import AlreadyExists, StoreFailed, Unauthenticated
from gateway.transport.call import Peer

HERE = Peer("127.0.0.1:5")
BEARER = "Bearer cutover_ci_s"
EVENT = Draft(1, "ada", "create-token", "", 0, "", "", "", "", ACCESS)


class Flaky(MemoryStore):
    """A store that is gone when told so, and counts what it was asked."""

    gone = False
    reads = 0

    async def tokens(self) -> list[Token]:
        self.reads += 1
        if self.gone:
            raise StoreFailed("gone")
        return await super().tokens()

    async def note(self, event: Draft) -> AuditEvent:
        if self.gone:
            raise StoreFailed("gone")
        return await super().note(event)


def token(**fields: int) -> Token:
    return Token("ci", tokens.hashed("s"), {ALL: "viewer"}, "ada", 1, **fields)


class House:
    def __init__(self, copy: Path) -> None:
        self.store = Flaky()
        self.copy = copy
        self.now_ms = 1_000
        self.made: list[Keeper] = []

    async def keeper(self, access: Access | None = None) -> Keeper:
        made = Keeper(self.store, access or Access(), lambda: self.now_ms, self.copy)
        await made.start()
        self.made.append(made)
        return made


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path / "tokens.json")
    yield made
    for keeper in made.made:
        await keeper.close()


async def test_a_token_holds_at_once_where_it_was_made(house: House) -> None:
    keeper = await house.keeper()
    assert (await keeper.caller(None, HERE)).roles.may(Role.OWNER, None)
    await keeper.add(token(), EVENT)
    assert (await keeper.caller(BEARER, HERE)).name == "token:ci"
    with pytest.raises(Unauthenticated):
        await keeper.caller(None, HERE)
    with pytest.raises(AlreadyExists):
        await keeper.add(token(), EVENT)
    await keeper.replace(token(revoked_ms=2), EVENT)
    with pytest.raises(Unauthenticated, match="revoked"):
        await keeper.caller(BEARER, HERE)


async def test_what_another_gateway_does_is_seen_soon(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FRESH_S", 0.0)
    one, other = await house.keeper(), await house.keeper()
    await one.add(token(), EVENT)
    assert (await other.caller(BEARER, HERE)).name == "token:ci"


async def test_the_store_is_not_asked_for_each_call(house: House) -> None:
    keeper = await house.keeper()
    for _ in range(5):
        await keeper.caller(None, HERE)
    assert house.store.reads == 1


async def test_without_the_store_what_was_known_holds_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = await house.keeper()
    await keeper.add(token(expires_ms=5_000), EVENT)
    monkeypatch.setattr(keeping, "FRESH_S", 0.0)
    house.store.gone = True
    assert (await keeper.caller(BEARER, HERE)).name == "token:ci"
    again = await house.keeper()
    assert (await again.caller(BEARER, HERE)).name == "token:ci"
    house.now_ms = 5_000
    with pytest.raises(Unauthenticated, match="expired"):
        await again.caller(BEARER, HERE)
    house.store.gone = False
    assert set(await again.tokens()) == {"ci"}


async def test_nobody_gets_in_while_tokens_were_never_known(house: House) -> None:
    house.store.gone = True
    keeper = await house.keeper()
    for authorization, peer in ((BEARER, HERE), (None, HERE), (None, Peer("unix:"))):
        with pytest.raises(StoreFailed, match="nobody knows who may do what"):
            await keeper.caller(authorization, peer)


async def test_grants_hold_while_tokens_were_never_known(house: House) -> None:
    house.store.gone = True
    keeper = await house.keeper(Access({"unix:": Roles({ALL: Role.OWNER})}))
    assert (await keeper.caller(None, Peer("unix:"))).name == "unix:"
    with pytest.raises(Unauthenticated):
        await keeper.caller(None, HERE)
    with pytest.raises(StoreFailed):
        await keeper.caller(BEARER, Peer("unix:"))


@pytest.mark.parametrize("content", [b"", b"[", b'{"a": 1}', b'[{"id": "ci"}]'])
async def test_a_copy_that_is_damaged_is_as_good_as_none(house: House, content: bytes) -> None:
    house.store.gone = True
    house.copy.write_bytes(content)
    keeper = await house.keeper()
    with pytest.raises(StoreFailed):
        await keeper.caller(None, HERE)


async def test_the_copy_is_for_the_gateway_alone_and_has_no_secret(house: House) -> None:
    keeper = await house.keeper()
    await keeper.add(Token("ci", tokens.hashed("hush"), {ALL: "viewer"}, "ada", 1), EVENT)
    assert house.copy.stat().st_mode & 0o777 == 0o600
    assert b"hush" not in house.copy.read_bytes()


async def test_a_copy_that_cannot_be_written_is_said(house: House) -> None:
    house.copy = house.copy / "no" / "folder"
    with capture_logs() as logs:
        await house.keeper()
    assert "tokens cannot be kept for times without the store" in str(logs)


async def test_a_door_that_is_open_is_said(house: House) -> None:
    with capture_logs() as logs:
        keeper = await house.keeper()
        await keeper.add(token(), EVENT)
        await house.keeper()
    assert str(logs).count("whoever reaches the admin API on this machine is owner") == 1


async def test_a_door_that_nobody_can_open_is_said(house: House) -> None:
    with capture_logs() as logs:
        await house.keeper(Access(open_port=False, socket=True))
        await house.keeper(Access(open_port=False))
    assert [entry["log_level"] for entry in logs] == ["info", "warning"]
    assert "nobody can use the admin API" in logs[1]["event"]


async def test_refusals_are_noted_and_counted(house: House) -> None:
    keeper = await house.keeper()
    for _ in range(3):
        await keeper.refused("token:ci", "flip", "iris", "no")
    await keeper.close()
    events = await house.store.events(None, 10, None)
    assert [(event.kind, event.reason) for event in events] == [
        (REFUSAL, "2 more refusals within a minute, the last: no"),
        (REFUSAL, "no"),
    ]


async def test_a_refusal_without_a_store_is_in_the_log(house: House) -> None:
    keeper = await house.keeper()
    house.store.gone = True
    with capture_logs() as logs:
        await keeper.refused("token:ci", "flip", "iris", "no")
    assert [entry["event"] for entry in logs] == ["admin call refused", "the refusal is not in the audit log"]


async def test_minutes_end_by_themselves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 0.001)
    noted = house.store.note
    done: list[Draft] = []
    twice = asyncio.Event()

    async def note(event: Draft) -> AuditEvent:
        done.append(event)
        if len(done) == 2:
            twice.set()
        return await noted(event)

    monkeypatch.setattr(house.store, "note", note)
    keeper = await house.keeper()
    for _ in range(2):
        await keeper.refused("token:ci", "flip", "iris", "no")
    house.now_ms += 60_000
    await twice.wait()
    assert done[1].reason.startswith("1 more refusal")


async def test_a_store_that_was_put_back_gives_nobody_back_what_was_taken(house: House) -> None:
    keeper = await house.keeper()
    await keeper.add(token(), EVENT)
    await keeper.replace(token(revoked_ms=2), EVENT)
    for older in (MemoryStore(), Flaky()):
        if isinstance(older, Flaky):
            await older.put_token(token(), EVENT)
        again = Keeper(older, Access(), lambda: 1_000, house.copy)
        with capture_logs() as logs:
            await again.start()
        assert "the store has forgotten the end of tokens" in str(logs)
        with pytest.raises(Unauthenticated, match="revoked"):
            await again.caller(BEARER, HERE)
        with pytest.raises(Unauthenticated, match="send a token"):
            await again.caller(None, HERE)
        await again.close()
