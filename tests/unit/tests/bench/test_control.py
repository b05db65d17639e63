"""What is made of the measurements, and the directory they are taken on."""

from pathlib import Path

from gateway.controlplane.registry import Registry
from tests.bench import control
from tests.bench.control import VERSIONS, Found


def found(models: int, factor: float) -> Found:
    return Found(
        models,
        start_s=1.0,
        restart_s=0.5,
        change_ms=[2.0 * factor] * 99 + [9.0],
        control_ms=[1.0, 1.5 * factor, 2.0],
        proxy_ms=[0.25],
        look_ms=[3.0, 2.0],
        proxy_bytes=int(30e6 * factor),
        full_bytes=int(40e6 * factor),
    )


async def test_the_directory_has_models_of_five_versions(tmp_path: Path) -> None:
    control.put_models(tmp_path, 3)
    registry = Registry(tmp_path)
    await registry.settle()
    assert len(registry.versions) == 3 * VERSIONS
    assert len({version.digest for version in registry.versions.values()}) == 3 * VERSIONS


def test_the_table_has_both_worlds() -> None:
    rows = list(control.table([found(1, 1.0), found(1_000, 1.1)], {1: [2.0, 1.0], 1_000: [1.5]}))
    assert rows[0] == "| | 1 × 5 | 1,000 × 5 |"
    assert "| `cutover serve`, nothing released, to ready, s | 1.00 | 1.50 |" in rows
    assert "| change of one release, p50, ms | 2.00 | 2.20 |" in rows
    assert "| change of one release, p99, ms | 9.00 | 9.00 |" in rows
    assert "| a look at the models directory, ms | 2.00 | 2.00 |" in rows


def test_the_aims_are_about_what_many_models_add() -> None:
    aims = control.aimed([found(1, 1.0), found(1_000, 1.2)], {1: [1.0], 1_000: [6.0]})
    assert [aim.verdict for aim in aims] == ["not reached"] * 3 + ["reached"] * 2
    assert [aim.value for aim in aims[-2:]] == [6.0, 8.0]


def test_a_full_snapshot_has_three_versions_of_each_model() -> None:
    made = control.snapshot(3)
    assert len(made.pools) == 9
    assert all(pool.version in (3, 4, 5) for pool in made.pools)
    assert {release.policy.live for release in made.releases} == {(3, 4, 5)}
