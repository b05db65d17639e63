from pathlib import Path

import pytest

from gateway.controlplane.pools import WorkerPool
from gateway.controlplane.roster import Roster, pools_named
from gateway.controlplane.settings import WorkerSettings
from gateway.routing.snapshot import Canary, Policy, Range, Release, Shadow
from tests.children.world import Book, put, version_of, worker_host


async def test_pools_are_found_by_key_and_by_model(tmp_path: Path, run_dir: Path, book: Book) -> None:
    roster = Roster()
    pools = {}
    for model, version in (("a", 1), ("a", 2), ("b", 1)):
        put(tmp_path, model, version)
        found = version_of(tmp_path, model, version)
        pool = WorkerPool(found, WorkerSettings(), worker_host(run_dir, book), lambda: None, shadow=False)
        pools[pool.key] = pool
        roster.put(pool.key, pool)
    assert dict(roster.of("a")) == {key: pool for key, pool in pools.items() if key[0] == "a"}
    assert list(roster) == list(pools.values())
    assert roster.get(("b", 1, False)) is pools["b", 1, False]
    assert roster.get(("b", 1, True)) is roster.get(("c", 1, False)) is None
    assert roster.pop(("b", 1, False)) is pools["b", 1, False]
    assert dict(roster.of("b")) == {}
    assert roster.clear() == list(pools.values())[:2]
    assert list(roster) == []
    for pool in pools.values():
        await pool.stop()


def test_the_warm_set_is_everything_that_may_have_to_answer_at_once() -> None:
    policy = Policy(3, (Canary(4, (Range(0, 100),)),), (Shadow(5, 1.0), Shadow(3, 0.1)), standby=6)
    rollback = Policy(1, (Canary(2, (Range(0, 1),)),), (Shadow(9, 1.0),), standby=3)
    assert pools_named(Release("m", 1, policy, rollback)) == {
        *(("m", version, False) for version in (1, 2, 3, 4, 6)),
        ("m", 5, True),
        ("m", 3, True),
    }


@pytest.mark.parametrize("stable", [1, 7])
def test_a_model_without_candidates_needs_only_what_is_stable(stable: int) -> None:
    assert pools_named(Release("m", 1, Policy(stable))) == {("m", stable, False)}
