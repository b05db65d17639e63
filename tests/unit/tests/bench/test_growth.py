"""The snapshots that are compared, and what is made of the rounds."""

import pytest

from gateway.routing.snapshot import Pool, Tensor
from tests.bench import growth
from tests.bench.growth import BASE, MODELS, OVERRIDES

POOLS = [
    Pool("mlp", version, False, "ready", addresses=(f"w{version}",), inputs=(Tensor("X", "FP32", (-1, 30)),))
    for version in (1, 2)
]


def test_idle_models_are_like_the_busy_one_but_have_no_workers() -> None:
    made = growth.snapshot(POOLS, models=5)
    assert [release.model for release in made.releases] == ["mlp", "mlp-1", "mlp-2", "mlp-3", "mlp-4"]
    assert made.pools[:2] == tuple(POOLS)
    assert all(not pool.addresses and pool.inputs == POOLS[0].inputs for pool in made.pools[2:])
    assert made.releases[0].policy.stable == 2
    assert [canary.basis_points for canary in made.releases[0].policy.canaries] == [1000]


def test_the_busy_model_is_the_same_everywhere() -> None:
    found = growth.sides(POOLS)
    assert next(iter(found)) == BASE
    assert len(found[MODELS].releases) == 1000
    assert {made.releases[0].model for made in found.values()} == {"mlp"}
    assert found[MODELS].releases[0] == found[BASE].releases[0]


def test_overrides_are_measured() -> None:
    found = growth.sides(POOLS)
    overrides = found[OVERRIDES].releases[0].policy.overrides
    assert len(overrides) == 10_000
    assert "user-123" in overrides  # the unit that the load names
    assert not found[BASE].releases[0].policy.overrides


def test_ratios_are_those_of_the_rounds() -> None:
    costs = {BASE: [5.0, 10.0, 5.0], MODELS: [5.5, 10.5, 5.25]}
    assert growth.growth(costs, MODELS) == pytest.approx(1.05)
    assert growth.growth(costs, OVERRIDES) is None
    assert [aim.verdict for aim in growth.aimed(costs)] == ["reached", "not measured"]
    assert "| 1,000 models | 5.50 | 1.050 |" in list(growth.table(costs))
