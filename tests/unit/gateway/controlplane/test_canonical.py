"""Hashes of releases never change: the vectors are what Cutover gave before the fields that came later."""

import msgspec
import pytest

from gateway.controlplane import audit
from gateway.controlplane.canonical import canonical
from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Register,
    Rollback,
    SetCanary,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.etag import etag
from gateway.controlplane.release import apply, unborn
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule

BEFORE: tuple[tuple[Command, str, str], ...] = (
    (Register(1), '"1-a47c9004"', "bb149321bd912432f745ab6f373a2779a737f88d6b3ec60af29ec72001289417"),
    (SetShadow(3, 0.25), '"2-c6dd71a7"', "234bb07cf54cd88d6d7b43a74da818c867dfec430deb2bef941c7946e0980028"),
    (SetCanary(2, 700), '"3-a4af730e"', "1ef7af8b13e4ada3d3103346a2348697d2facd9b150292d98618de866563581e"),
    (
        SetOverrides({"ann": "canary-2", "bob": "stable"}),
        '"4-86120612"',
        "034a5782a10ee19c958cf9e9071f109fe96c5b5fbb0f3415594543548dfc5c54",
    ),
    (PrepareStandby(2), '"5-61ed3cdc"', "be62d23092bcc9bf2001daa49f808aec0c7bfc6e471c7d637d65a2fd7223338d"),
    (Flip(), '"6-2b148695"', "f2e660eb28a116feae57b7e39b86e7dc69bd886e941cbb04a4a274c1ccc639e1"),
    (Rollback(), '"7-4ee4f270"', "c3e047c1b7b5b3f6d242b0da84e6a80bbee504da102b17aa5008bdb4f88b8cd4"),
)
PLAIN = {"stable": 1, "canaries": (), "shadows": (), "standby": None, "salt": ""}
RELEASE = Release("iris", 3, Policy(stable=1), Policy(stable=1), updated_ms=5)
LATER = (
    Policy(1, overrides={"ann": "stable"}),
    Policy(1, holdout=Holdout(1, (Range(0, 500),), "iris/holdout/1")),
    Policy(1, rules=(Rule("x-team", ("qa",), "stable"),)),
    Policy(1, assignment=Assignment(unit_metadata=("x-tenant",))),
    Policy(1, timeout_ms=500),
)


def test_a_history_has_the_etags_and_the_audit_chain_of_before() -> None:
    release, previous = unborn("iris"), audit.GENESIS
    for number, (command, expected_etag, expected_hash) in enumerate(BEFORE, 1):
        release, (fact,) = apply(release, command, 1_700_000_000_000 + number)
        event = audit.draft(fact, actor="ada", reason="why", request_id=f"id-{number}")
        previous = audit.link(previous, number, event).hash
        assert (etag(release), previous) == (expected_etag, expected_hash)


def test_what_says_nothing_is_left_out() -> None:
    said = canonical(RELEASE)
    assert said == {"model": "iris", "revision": 3, "policy": PLAIN, "rollback": PLAIN, "updated_ms": 5}


@pytest.mark.parametrize("policy", LATER)
def test_what_says_something_is_there_in_either_policy(policy: Policy) -> None:
    said = canonical(msgspec.structs.replace(RELEASE, policy=policy, rollback=policy))
    assert len(said["policy"]) == len(said["rollback"]) == len(PLAIN) + 1


def test_whatever_is_said_makes_another_etag_but_for_the_sequence() -> None:
    releases = [msgspec.structs.replace(RELEASE, policy=policy) for policy in LATER]
    releases += [msgspec.structs.replace(RELEASE, rollback=policy) for policy in (None, *LATER)]
    releases += [RELEASE, msgspec.structs.replace(RELEASE, paused=True)]
    assert len({etag(release) for release in releases}) == len(releases)
    assert etag(msgspec.structs.replace(RELEASE, sequence=9)) == etag(RELEASE)


def test_it_can_be_read_back() -> None:
    policy = Policy(
        *(1, (Canary(2, (Range(0, 10),)),), (), 2, "iris/2", {"ann": "canary-2"}),
        Holdout(1, (Range(0, 500),), "iris/holdout/1"),
        (Rule("x-team", ("qa", "dev"), "standby"),),
        Assignment(no_unit="stable"),
        timeout_ms=500,
    )
    release = Release("iris", 3, policy, Policy(stable=4), 5, paused=True)
    assert msgspec.json.decode(msgspec.json.encode(canonical(release)), type=Release) == release
