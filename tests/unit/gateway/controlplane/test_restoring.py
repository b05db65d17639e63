import time
from pathlib import Path

import pytest

from gateway.controlplane import audit
from gateway.controlplane.commands import Command, Register, SetCanary
from gateway.controlplane.lifetime import Lifetime
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.restoring import Place, Word, accept, described, restore
from gateway.controlplane.served import SERVED_FILE, Served, older
from gateway.controlplane.store import Store
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import InvalidRequest, StartupError
from gateway.routing.snapshot import Release

WORD = Word("ada", "the disk died")


async def commit(store: Store, release: Release, command: Command) -> Release:
    after, (fact,) = apply(release, command, now_ms=1)
    event = audit.draft(fact, actor="ada", reason="", request_id="")
    return await store.commit(release.revision, after, event, None)


def files(state: Path) -> set[str]:
    return {one.name for one in state.iterdir()}


def remove_store(state: Path) -> None:
    for file in state.glob("cutover.db*"):
        file.unlink()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def history(state: Path) -> tuple[list[bytes], dict[str, Release]]:
    """A store in which `iris` and `wine` were changed after the backup that is returned, and what was served last."""
    store = SqliteStore(state / "cutover.db")
    await store.open()
    iris = await commit(store, unborn("iris"), Register(1))
    await commit(store, unborn("rose"), Register(1))
    lines = [line async for line in store.dump()]
    iris = await commit(store, await commit(store, iris, SetCanary(2, 100)), SetCanary(2, 200))
    await commit(store, unborn("wine"), Register(1))
    releases = await store.releases()
    await store.close()
    await Served(state / SERVED_FILE).keep(releases.values())
    return lines, releases


async def read(state: Path) -> tuple[dict[str, Release], list[audit.AuditEvent]]:
    store = SqliteStore(state / "cutover.db")
    await store.open()
    releases, events = await store.releases(), list(reversed(await store.events(None, 100, None)))
    await store.close()
    return releases, events


@pytest.mark.parametrize("broken", [False, True])
async def test_a_backup_takes_the_place_of_the_store_and_is_newer_than_what_was_served(
    state: Path, broken: bool
) -> None:
    lines, before = await history(state)
    if broken:
        (state / "cutover.db").write_bytes(b"no database" * 500)
    restored = await restore(Place(state), lines, WORD)
    releases, events = await read(state)
    assert releases == restored.releases == Served(state / SERVED_FILE).releases
    assert (restored.lifted, restored.lost) == (("iris",), ("wine",))
    assert releases["iris"].policy.canaries == ()
    assert releases["iris"].revision > before["iris"].revision
    assert releases["iris"].sequence > max(release.sequence for release in before.values())
    assert releases["rose"] == before["rose"]
    assert audit.verify(events) is None
    assert (events[-1].verb, events[-1].actor, events[-1].reason) == ("restore", "ada", "the disk died")
    assert restored.kept is not None
    assert restored.kept.exists()
    assert list(described(restored))[:3] == [
        "2 releases are restored",
        f"iris: now revision {releases['iris'].revision}, for newer ones were served",
        "wine: has no release any more",
    ]


async def test_the_first_restore_on_a_new_machine(state: Path, tmp_path: Path) -> None:
    lines, _ = await history(tmp_path / "old")
    restored = await restore(Place(state), lines, WORD)
    assert (restored.lifted, restored.lost, restored.kept) == ((), (), None)
    assert (await read(state))[0] == restored.releases
    assert files(state) >= {"cutover.db", SERVED_FILE}


async def test_no_store_of_before_takes_the_place_of_another(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = await history(state)
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-020000")  # the hour that there is twice
    kept = [(await restore(Place(state), lines, WORD)).kept for _ in range(3)]
    assert len(set(kept)) == 3
    assert all(one is not None and one.exists() for one in kept)


@pytest.mark.parametrize("cut", [slice(None, -1), slice(1, None), slice(None, 3)])
async def test_a_damaged_backup_changes_nothing(state: Path, cut: slice) -> None:
    lines, before = await history(state)
    with pytest.raises(InvalidRequest):
        await restore(Place(state), lines[cut], WORD)
    assert (await read(state))[0] == before == Served(state / SERVED_FILE).releases
    assert not any(name.startswith("restoring") for name in files(state))


async def test_a_store_that_was_put_back_by_hand_can_be_accepted(state: Path) -> None:
    lines, before = await history(state)
    remove_store(state)
    store = SqliteStore(state / "cutover.db")
    await store.open()
    await store.load(lines)
    assert older(await store.releases(), before)
    await store.close()
    restored = await accept(Place(state), WORD)
    assert restored.lifted == ("iris",)
    releases, events = await read(state)
    assert older(releases, Served(state / SERVED_FILE).releases) == ""
    assert releases == restored.releases
    assert events[-1].verb == "restore"


async def test_nothing_is_restored_under_a_running_gateway(state: Path) -> None:
    lines, _ = await history(state)
    for attempt in (restore(Place(state), lines, WORD), accept(Place(state), WORD)):
        with Lifetime(state), pytest.raises(StartupError, match="in use by the gateway"):
            await attempt


async def test_there_must_be_a_store_to_accept(state: Path) -> None:
    with pytest.raises(StartupError, match="there is no store"):
        await accept(Place(state), WORD)
