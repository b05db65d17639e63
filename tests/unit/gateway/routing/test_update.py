from gateway.routing.snapshot import Policy, Pool, Release, Snapshot
from gateway.routing.update import Update


def test_no_field_of_a_snapshot_is_forgotten() -> None:
    assert set(Snapshot.__struct_fields__) <= set(Update.__struct_fields__)


def test_an_update_names_its_models() -> None:
    pool = Pool("pool", 1, shadow=False, state="ready")
    update = Update(
        1, 2, (Release("release", 1, Policy(1)),), models_gone=("gone",), pools=(pool,), pools_gone=(("left", 1, True),)
    )
    assert update.models() == {"release", "gone", "pool", "left"}
    assert not update.empty
    assert Update(1, 2).empty
    assert not Update(assignments={}).empty
    assert not Update(regions=()).empty
