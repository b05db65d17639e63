"""Measurements travel as JSON and add up."""

import json

from loadtests.measurement import UNREACHABLE, Measurement
from tests.unit.loadtests.samples import measurement


def travelled(made: Measurement) -> Measurement:
    return Measurement.from_json(json.loads(json.dumps(made.to_json())))


def test_it_travels() -> None:
    assert json.dumps(travelled(measurement()).to_json()) == json.dumps(measurement().to_json())
    assert travelled(measurement()).conditions["started"] == "2030-01-02T03:04:05+00:00"


def test_parts_add_up() -> None:
    whole = Measurement()
    whole.merge(travelled(measurement()))
    whole.merge(travelled(measurement()))
    assert whole.conditions["processes"] == 2
    assert whole.recorder.measured().intended == 2 * measurement().recorder.measured().intended


def test_the_error_of_one_part_is_the_error_of_all() -> None:
    failed = Measurement(error="nothing there", exit_code=UNREACHABLE)
    for parts in ([measurement(), failed], [failed, measurement()], [failed, failed]):
        whole = Measurement()
        for part in parts:
            whole.merge(part)
        assert (whole.error, whole.exit_code) == ("nothing there", UNREACHABLE)


def test_conditions_say_who_the_users_were() -> None:
    facts = measurement().conditions
    assert (facts["users"], facts["users_pool"], facts["arm"], facts["seed"]) == (20, 100, "canary-2", 7)
    assert "units" not in facts
