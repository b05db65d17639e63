from typing import Any

import pytest
from pydantic import ValidationError

from gateway.controlplane.settings import WorkerOverrides, WorkerSettings
from gateway.controlplane.written import Model, VersionFile
from gateway.routing.snapshot import Assignment


def test_a_model_without_settings_of_its_own_is_like_no_entry() -> None:
    assert Model().assignment() == Assignment()
    assert Model().overrides() == WorkerOverrides()


def test_metadata_keys_are_lower_case_as_on_the_wire() -> None:
    model = Model(unit_metadata=["X-Tenant"], unit_parameters=["Tenant"], no_unit="stable", allow_forced=False)
    assert model.assignment() == Assignment(("x-tenant",), ("Tenant",), "stable", False)


def test_a_version_says_durations_and_sizes_with_their_units() -> None:
    found = VersionFile.model_validate(
        {"max_queue_delay": "5ms", "max_memory": "1GiB", "preferred_batch_sizes": [8, 4, 8], "labels": {"Y": "y.txt"}}
    )
    settings = found.overrides().over(WorkerSettings())
    assert (settings.max_queue_delay, settings.max_memory) == (0.005, 1 << 30)
    assert settings.preferred_batch_sizes == (8, 4, 8)
    assert found.labels == {"Y": "y.txt"}


@pytest.mark.parametrize(
    "written",
    [
        {"max_queue_delay": 5}, {"max_queue_delay": "61s"}, {"max_memory": "1GB"}, {"max_memory": "63MiB"},
        {"priority_levels": 17}, {"preferred_batch_sizes": [0]}, {"instances": 0}, {"instance": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Model, VersionFile])
def test_what_makes_no_sense_is_refused(kind: type[Model] | type[VersionFile], written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(written)


def test_bounds_themselves_are_allowed() -> None:
    found = VersionFile.model_validate({"max_queue_delay": "1m", "max_memory": "64MiB", "priority_levels": 16})
    assert found.overrides() == WorkerOverrides(max_queue_delay=60.0, max_memory=64 << 20, priority_levels=16)
