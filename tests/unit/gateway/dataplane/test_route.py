import re
import tracemalloc
from typing import Any

import msgspec
import pytest

from gateway.dataplane import shares
from gateway.dataplane.lane import Lane
from gateway.dataplane.route import REASONS, Route
from gateway.dataplane.tap import Series
from gateway.errors import InvalidRequest, NotFound
from gateway.oip import request as oip
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule
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
    middle = 1 << 31
    for chance, name in ((0, "canary-2"), (middle - 1, "canary-2"), (middle, "stable"), (2 * middle - 1, "stable")):
        monkeypatch.setattr(shares, "getrandbits", lambda bits, chance=chance: chance if bits == 32 else -1)
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


HELD = Holdout(1, (Range(0, 2000), Range(4000, 4500)), "m/holdout/1")


def held(unit: str) -> bool:
    number = bucket(HELD.salt, unit)
    return number < 2000 or 4000 <= number < 4500


@pytest.mark.parametrize("canaries", [HALF.canaries, ()])
def test_the_holdout_has_its_own_buckets_before_those_of_canaries(canaries: tuple[Canary, ...]) -> None:
    made = route(Policy(stable=3, canaries=canaries, salt="m/2", holdout=HELD))
    found = {f"u{n}": assigned(made, {"x-user-id": f"u{n}"}) for n in range(300)}
    assert {unit for unit, choice in found.items() if choice == ("holdout", "holdout")} == set(filter(held, found))
    others = [("canary-2", "split"), ("stable", "split")] if canaries else [("stable", "stable")]
    assert {choice for unit, choice in found.items() if not held(unit)} == set(others)
    assert made.arms["holdout"].version == 1
    assert assigned(made, {}, request("1")) == ("holdout", "version")


def test_nobody_without_a_unit_is_held_out() -> None:
    everybody = Holdout(1, (Range(0, 10_000),), "m/holdout/1")
    assert assigned(route(Policy(stable=3, holdout=everybody))) == ("stable", "stable")
    assert assigned(route(msgspec.structs.replace(HALF, holdout=everybody)))[1] == "per-request"


def test_the_first_rule_that_matches_decides() -> None:
    rules = (
        Rule("x-region", ("eu", "us"), "canary-2"),
        Rule("x-region", ("us", "asia"), "stable"),
        Rule("x-plan", ("gold",), "stable"),
        Rule("x-region", ("mars",), "canary-2"),
    )
    made = route(msgspec.structs.replace(HALF, rules=rules))
    for metadata, expected in (
        ({"x-region": "eu"}, "canary-2"),
        ({"x-region": "us"}, "canary-2"),
        ({"x-region": "asia", "x-plan": "gold"}, "stable"),
        ({"x-region": "eu", "x-plan": "gold"}, "canary-2"),
        ({"x-region": "mars", "x-plan": "gold"}, "stable"),
        ({"x-region": "mars"}, "canary-2"),
    ):
        assert assigned(made, metadata) == (expected, "rule")
    for metadata in ({}, {"x-region": "EU"}, {"x-region": ""}, {"x-plan": "eu"}):
        assert assigned(made, {"x-user-id": RIGHT} | metadata) == ("stable", "split")


def test_a_rule_comes_after_an_override_and_before_the_holdout() -> None:
    policy = Policy(
        stable=3,
        standby=2,
        overrides={"qa": "stable"},
        rules=(Rule("x-region", ("eu",), "standby"),),
        holdout=Holdout(1, (Range(0, 10_000),), "m/holdout/1"),
    )
    made = route(policy)
    assert assigned(made, {"x-user-id": "qa", "x-region": "eu"}) == ("stable", "override")
    assert assigned(made, {"x-user-id": "ada", "x-region": "eu"}) == ("standby", "rule")
    assert assigned(made, {"x-user-id": "ada"}) == ("holdout", "holdout")
    assert assigned(made, {"x-region": "eu", "cutover-arm": "stable"}) == ("stable", "forced")
    assert assigned(made, {"x-region": "eu"}, request("3")) == ("stable", "version")


def test_rules_alone_do_not_ask_for_the_unit() -> None:
    made = route(Policy(stable=1, standby=2, rules=(Rule("x-region", ("eu",), "standby"),)))
    broken, _ = oip.read(b"\x22\x03\x0a\x01\xff")
    assert assigned(made, {"x-region": "eu"}, broken) == ("standby", "rule")
    assert assigned(made, {}, broken) == ("stable", "stable")


def test_a_release_may_know_its_units_better_than_the_configuration() -> None:
    own = Assignment(unit_metadata=("x-tenant",), unit_parameters=(), no_unit="stable", allow_forced=False)
    made = route(msgspec.structs.replace(HALF, assignment=own))
    assert assigned(made, {"x-user-id": RIGHT, "x-tenant": LEFT}) == ("canary-2", "split")
    assert assigned(made, {"x-user-id": LEFT}, request(user_id=LEFT)) == ("stable", "no-unit")
    with pytest.raises(InvalidRequest, match="not allowed"):
        made.assign({"cutover-arm": "stable"}, request())
    release = Release("m", 7, made._release.policy)
    assert made.compiled_from(release, Assignment(no_unit="stable")), "what the configuration says is no matter"
    assert not route().compiled_from(Release("m", 7, HALF), own)


@pytest.mark.parametrize(
    ("policy", "undivided"),
    [
        (Policy(stable=1, standby=2, timeout_ms=50, assignment=Assignment(no_unit="stable")), True),
        (HALF, False),
        (Policy(stable=1, overrides={"qa": "stable"}), False),
        (Policy(stable=1, rules=(Rule("k", ("v",), "stable"),)), False),
        (Policy(stable=1, holdout=HELD), False),
    ],
)
def test_what_divides_a_release(policy: Policy, undivided: bool) -> None:
    assert route(policy).undivided is undivided


def test_a_timeout_stands_between_a_request_and_its_lane() -> None:
    plain, timed = route(), route(msgspec.structs.replace(HALF, timeout_ms=50))
    assert all(arm.way is arm.lane for arm in plain.arms.values())
    assert all(arm.way is not arm.lane for arm in timed.arms.values())


def test_a_thousand_divided_releases_are_small() -> None:
    lane = LaneBench(workers=0).lane
    series = Series("m", 1, "stable")
    ranges = tuple(Range(start, start + 500) for start in range(0, 10_000, 1000))
    releases = [
        Release(f"m{n}", n, Policy(1, (Canary(2, ranges),), salt=f"m{n}/2", holdout=HELD, timeout_ms=n % 2))
        for n in range(1000)
    ]
    tracemalloc.start()
    made = [Route(release, Assignment(), lambda _: lane, lambda *_: series) for release in releases]
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes / len(made) < 8000
