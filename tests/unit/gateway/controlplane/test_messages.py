"""Our values as messages."""

from datetime import UTC, datetime

import pytest

from gateway.cli.words import to_policy
from gateway.controlplane.audit import Draft, link
from gateway.controlplane.etag import etag
from gateway.controlplane.messages import (
    event_message,
    gateway_message,
    other_state_message,
    overrides_message,
    proxy_messages,
    release_message,
    roles,
    statistics_messages,
    token_message,
    version_message,
)
from gateway.controlplane.ports import Applied
from gateway.controlplane.store import Token
from gateway.controlplane.store.members import Member
from gateway.controlplane.store.members import Report as Beat
from gateway.observe.histogram import index
from gateway.observe.statistics import SeriesTotals, ShadowTotals, Statistics
from gateway.routing.outcome import Report, SeriesReport
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule, Shadow
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.fake_fleet import status

POLICY = Policy(
    stable=1,
    canaries=(Canary(2, (Range(0, 50), Range(100, 150))),),
    shadows=(Shadow(3, 0.25),),
    standby=4,
    salt="iris/2",
)
RELEASE = Release("iris", 7, POLICY, rollback=Policy(stable=5, standby=1), updated_ms=1_700_000_000_123)


def test_a_release() -> None:
    message = release_message(RELEASE)
    assert (message.name, message.model, message.revision) == ("models/iris/release", "iris", 7)
    assert message.etag == etag(RELEASE)
    assert message.update_time.ToMilliseconds() == 1_700_000_000_123
    assert message.policy == pb.Policy(
        stable_version=1,
        canaries=[
            pb.Canary(
                version=2,
                basis_points=100,
                ranges=[pb.BucketRange(start=0, end=50), pb.BucketRange(start=100, end=150)],
            )
        ],
        shadows=[pb.Shadow(version=3, rate=0.25)],
        standby_version=4,
        salt="iris/2",
    )
    assert message.rollback_policy == pb.Policy(stable_version=5, standby_version=1)


def test_a_state_that_is_not_the_current_one_has_no_etag() -> None:
    release = Release("iris", 7, Policy(stable=2), sequence=9)
    message = other_state_message(release)
    assert (message.name, message.revision, message.etag) == ("models/iris/release", 7, "")
    message.etag = etag(release)
    assert message == release_message(release)


def test_a_release_without_a_way_back() -> None:
    message = release_message(Release("iris", 1, Policy(stable=1)))
    assert not message.HasField("rollback_policy")
    assert message.policy.standby_version == 0


def test_what_a_release_may_have_besides() -> None:
    policy = Policy(
        stable=1,
        holdout=Holdout(5, (Range(0, 20), Range(30, 40)), "iris/holdout/5"),
        rules=(Rule("x-team", ("qa", "dev"), "stable"),),
        assignment=Assignment(("x-tenant",), (), "stable", allow_forced=False),
        timeout_ms=250,
    )
    release = Release("iris", 7, policy, paused=True, sequence=40)
    message = release_message(release, [Applied(0, 1.5), Applied(1, 5_000.0, fenced=True, gateway="b")])
    assert (message.paused, message.sequence) == (True, 40)
    assert list(message.applied) == [
        pb.Applied(proxy=0, took_ms=1.5),
        pb.Applied(gateway="b", proxy=1, took_ms=5_000.0, fenced=True),
    ]
    assert to_policy(message.policy) == policy
    assert message.policy.holdout.basis_points == 30
    assert roles(release, 5) == ["holdout"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [(1, ["stable"]), (2, ["canary"]), (3, ["shadow"]), (4, ["standby"]), (5, ["rollback"]), (6, [])],
)
def test_roles(version: int, expected: list[str]) -> None:
    assert roles(RELEASE, version) == expected


def test_a_version_may_have_several_roles() -> None:
    policy = Policy(stable=1, canaries=(Canary(2, (Range(0, 1),)),), shadows=(Shadow(2, 1.0),), standby=2)
    assert roles(Release("iris", 1, policy), 2) == ["canary", "shadow", "standby"]


@pytest.mark.parametrize("state", ["found", "loading", "ready", "failed", "missing", "unloaded"])
def test_a_version(state: str) -> None:
    message = version_message(status("iris", 2, state), RELEASE)
    assert message.name == "models/iris/versions/2"
    assert pb.Version.State.Name(message.state).lower() == state
    assert list(message.roles) == ["canary"]
    assert message.inputs[0] == pb.Tensor(name="X", datatype="FP32", shape=[-1, 30])
    assert (message.instances_ready, message.instances, message.restarts, message.batched) == (1, 2, 3, True)
    assert list(version_message(status("wine", 1), None).roles) == []


def test_a_version_that_is_on_its_way_out_counts_as_unloaded() -> None:
    assert version_message(status("iris", 2, "unloading"), RELEASE).state == pb.Version.UNLOADED


def test_an_audit_event() -> None:
    event = link("0" * 64, 3, Draft(1_700_000_000_123, "ada", "flip", "iris", 7, "why", "id-1", "{}", "{ }"))
    message = event_message(event)
    assert message.time.ToMilliseconds() == 1_700_000_000_123
    fields = (
        "sequence",
        "actor",
        "verb",
        "model",
        "revision",
        "reason",
        "request_id",
        "before",
        "after",
        "hash",
        "kind",
    )
    assert [getattr(message, field) for field in fields] == [getattr(event, field) for field in fields]


def test_a_gateway() -> None:
    member = Member("b:8001", "i-1", datetime(2026, 1, 1, tzinfo=UTC), 0.25, Beat(applied_sequence=7, lease_ms=3_000))
    assert gateway_message(member, silent=False, answering=True) == pb.Gateway(
        name="gateways/b:8001",
        gateway="b:8001",
        incarnation="i-1",
        applied_sequence=7,
        heard_ms=250.0,
        lease_ms=3_000,
        answering=True,
    )


def test_statistics_of_arms_and_shadows() -> None:
    statistics = Statistics()
    statistics.series["iris", 1, "stable"] = SeriesTotals(
        codes={0: 4, 14: 1},
        latency={index(1_000): 4},
        latency_sum_us=4_000,
        latency_max_us=1_000,
        queue={index(5): 4},
        queue_sum_us=20,
        queue_max_us=5,
    )
    statistics.series["wine", 1, "stable"] = SeriesTotals(codes={0: 1})
    statistics.shadows["iris", 2] = ShadowTotals(
        copies=10, compared=30, agreed=29, dropped=2, failed=1, incomparable=1, max_abs_difference=0.5
    )
    stable, shadow = statistics_messages(statistics, "iris")
    assert dict(stable.requests) == {"OK": 4, "UNAVAILABLE": 1}
    assert stable.latency.count == 4
    assert stable.latency.mean_ms == 1.0
    assert 0.9 <= stable.latency.p50_ms <= stable.latency.p99_ms <= stable.latency.max_ms == 1.0
    assert stable.queue.max_ms == 0.005
    assert not stable.HasField("shadow")
    assert (shadow.version, shadow.arm, dict(shadow.requests)) == (2, "shadow", {"OK": 7})
    assert shadow.shadow == pb.ShadowStatistics(
        compared=30, agreed=29, dropped=2, failed=1, incomparable=1, max_absolute_difference=0.5
    )
    assert shadow.latency == pb.Latency()
    assert [found.model for found in statistics_messages(statistics, None)] == ["iris", "iris", "wine"]


def test_a_code_that_is_none_is_still_counted() -> None:
    statistics = Statistics()
    statistics.series["iris", 1, "stable"] = SeriesTotals(codes={2: 1, 99: 2, 98: 3})
    assert dict(statistics_messages(statistics, None)[0].requests) == {"UNKNOWN": 6}


def test_proxies() -> None:
    statistics = Statistics()
    statistics.fold(1, Report(series=(SeriesReport("iris", 1, "stable", codes={0: 4}),), connections=2, in_flight=1))
    statistics.fold(0, Report())
    statistics.proxy_gone(0)
    assert proxy_messages(statistics) == [
        pb.Proxy(index=0, up=False),
        pb.Proxy(index=1, up=True, connections=2, in_flight=1, requests=4),
    ]


def test_overrides_in_pages() -> None:
    release = Release("iris", 7, Policy(1, overrides={"c": "stable", "a": "stable", "b": "stable"}))
    page = overrides_message(release, (), 2, "")
    assert ([one.unit for one in page.overrides], page.revision, page.next_page_token) == (["a", "b"], 7, "b")
    last = overrides_message(release, (), 2, "b")
    assert ([one.unit for one in last.overrides], last.next_page_token) == (["c"], "")
    assert [one.unit for one in overrides_message(release, ("c", "x"), 2, "").overrides] == ["c"]
    assert release_message(release).policy.override_count == 3


def test_a_token_is_told_without_its_hash() -> None:
    message = token_message(Token("ci", "ab" * 32, {"iris": "operator", "*": "emperor"}, "ada", 1_000, 2_000, 3_000))
    assert (message.name, dict(message.roles), message.created_by) == ("tokens/ci", {"iris": pb.OPERATOR}, "ada")
    assert [time.ToMilliseconds() for time in (message.create_time, message.expire_time, message.revoke_time)] == [
        1_000,
        2_000,
        3_000,
    ]
    assert "ab" * 32 not in str(message)
    holds = token_message(Token("ci", "", {}, "ada", 1_000))
    assert not holds.HasField("expire_time")
    assert not holds.HasField("revoke_time")
