import re
from typing import Any

import msgspec
import pytest

from gateway.dataplane import route as routes
from gateway.dataplane.lane import Lane
from gateway.dataplane.route import REASONS, Route
from gateway.dataplane.tap import Series
from gateway.errors import InvalidRequest, NotFound
from gateway.oip import request as oip
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import Assignment, Canary, Policy, Range, Release
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import LaneBench

HALF = Policy(stable=1, canaries=(Canary(2, (Range(0, 5000),)),), salt="m/2")
LEFT, RIGHT = (next(f"u{n}" for n in range(100) if (bucket("m/2", f"u{n}") < 5000) is low) for low in (True, False))
"""A user of the canary and one of stable."""


def route(policy: Policy = HALF, **assignment: Any) -> Route:
    lanes: dict[int, Lane] = {}

    def lane_of(version: int) -> Lane:
        return lanes.setdefault(version, LaneBench(workers=0).lane)

    return Route(
        Release("m", 7, policy), Assignment(**assignment), lane_of, lambda version, arm: Series("m", version, arm)
    )


def request(version: str = "", **parameters: Any) -> oip.Request:
    message = pb.ModelInferRequest(model_name="m", model_version=version)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return oip.read(message.SerializeToString())[0]


def assigned(made: Route, metadata: dict[str, str] | None = None, asked: oip.Request | None = None) -> tuple[str, str]:
    arm, reason = made.assign(metadata or {}, asked or request())
    assert arm.name in made.arms
    assert reason in REASONS
    return arm.name, reason


def test_without_canaries_everything_is_stable() -> None:
    assert assigned(route(Policy(stable=3)), {"x-user-id": LEFT}) == ("stable", "stable")


def test_a_unit_goes_where_its_bucket_goes() -> None:
    assert assigned(route(), {"x-user-id": LEFT}) == ("canary-2", "split")
    assert assigned(route(), {"x-user-id": RIGHT}) == ("stable", "split")


def test_a_forced_arm_comes_before_everything() -> None:
    made = route(Policy(stable=1, canaries=HALF.canaries, standby=4, salt="m/2"))
    metadata = {"cutover-arm": "standby", "x-user-id": LEFT}
    assert assigned(made, metadata, request("2")) == ("standby", "forced")
    assert assigned(made, {"cutover-arm": "stable", "x-user-id": LEFT}) == ("stable", "forced")


def test_a_version_comes_before_the_split() -> None:
    assert assigned(route(), {"x-user-id": RIGHT}, request("2")) == ("canary-2", "version")
    assert assigned(route(), {"x-user-id": LEFT}, request("1")) == ("stable", "version")


def test_a_version_behind_several_arms_answers_as_the_first_of_them() -> None:
    made = route(Policy(stable=1, canaries=HALF.canaries, standby=2, salt="m/2"))
    assert assigned(made, {}, request("2")) == ("canary-2", "version")


def test_an_unknown_arm_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match="metadata cutover-arm: m has no arm 'x'; it has stable, canary-2"):
        route().assign({"cutover-arm": "x"}, request())


def test_forcing_can_be_forbidden() -> None:
    with pytest.raises(InvalidRequest, match="forcing an arm is not allowed for model m"):
        route(allow_forced=False).assign({"cutover-arm": "stable"}, request())


def test_an_unknown_version_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="m has no live version 9; it has 1, 2"):
        route().assign({}, request("9"))


@pytest.mark.parametrize("version", ["latest", "-1", "1.0", " 1", "٣"])
def test_a_version_that_is_no_integer(version: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"model version '{version}' is not an integer")):
        route().assign({}, request(version))


def test_metadata_keys_are_tried_in_order_and_empty_ones_skipped() -> None:
    made = route(unit_metadata=("x-tenant", "x-user-id"))
    assert assigned(made, {"x-tenant": "", "x-user-id": LEFT}) == ("canary-2", "split")
    assert assigned(made, {"x-tenant": RIGHT, "x-user-id": LEFT}) == ("stable", "split")


def test_parameters_come_after_metadata() -> None:
    made = route()
    assert assigned(made, {}, request(user_id=LEFT)) == ("canary-2", "split")
    assert assigned(made, {"x-user-id": RIGHT}, request(user_id=LEFT)) == ("stable", "split")
    assert assigned(made, {}, request(user_id="", other="x"))[1] == "per-request"


def test_numbers_are_units_as_they_are_written() -> None:
    made = route(unit_parameters=("key",))
    for number in range(50):
        expected = "canary-2" if bucket("m/2", str(number)) < 5000 else "stable"
        assert assigned(made, {}, request(key=number)) == (expected, "split")


def test_zero_is_a_unit() -> None:
    assert assigned(route(), {}, request(user_id=0))[1] == "split"


def test_without_sources_parameters_are_not_even_read() -> None:
    broken, _ = oip.read(b"\x22\x03\x0a\x01\xff")
    assert assigned(route(unit_parameters=()), {}, broken)[1] == "per-request"
    with pytest.raises(InvalidRequest, match="parameters cannot be read"):
        route().assign({}, broken)


def test_no_unit_per_request_keeps_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made = route()
    for chance, name in ((0.0, "canary-2"), (0.4999, "canary-2"), (0.5, "stable"), (0.99999999, "stable")):
        monkeypatch.setattr(routes, "random", lambda chance=chance: chance)
        assert assigned(made) == (name, "per-request")


def test_no_unit_may_mean_stable() -> None:
    assert {assigned(route(no_unit="stable")) for _ in range(50)} == {("stable", "no-unit")}


def test_arms_say_who_answered() -> None:
    made = route()
    arm, reason = made.assign({"x-user-id": LEFT}, request())
    assert arm.trailers[reason].pairs == (
        ("cutover-arm", "canary-2"),
        ("cutover-revision", "7"),
        ("cutover-reason", "split"),
    )
    assert (arm.series.version, arm.series.arm) == (2, "canary-2")
    assert arm.lane is not made.stable.lane


def test_by_version_without_one_is_stable() -> None:
    assert route().by_version(b"").name == "stable"
    assert route().by_version(b"2").name == "canary-2"


def test_an_override_comes_before_the_bucket() -> None:
    made = route(
        msgspec.structs.replace(HALF, standby=4, overrides={RIGHT: "canary-2", LEFT: "stable", "qa": "standby"})
    )
    assert assigned(made, {"x-user-id": RIGHT}) == ("canary-2", "override")
    assert assigned(made, {"x-user-id": LEFT}) == ("stable", "override")
    assert assigned(made, {}, request(user_id="qa")) == ("standby", "override")
    assert assigned(made, {"x-user-id": "other"})[1] == "split"
    assert assigned(made)[1] == "per-request"


def test_an_override_comes_after_a_forced_arm_and_a_version() -> None:
    made = route(msgspec.structs.replace(HALF, overrides={LEFT: "stable"}))
    assert assigned(made, {"cutover-arm": "canary-2", "x-user-id": LEFT}) == ("canary-2", "forced")
    assert assigned(made, {"x-user-id": LEFT}, request("2")) == ("canary-2", "version")


def test_overrides_hold_without_a_canary() -> None:
    made = route(Policy(stable=1, standby=2, overrides={"qa": "standby"}))
    assert assigned(made, {"x-user-id": "qa"}) == ("standby", "override")
    assert assigned(made, {"x-user-id": "other"}) == ("stable", "stable")
    assert assigned(made) == ("stable", "stable")
