"""The policy after each command, where a release is not needed to see it; the rest: test_release.py."""

import msgspec
import pytest

from gateway.controlplane import policies
from gateway.controlplane.commands import Register, SetCanary, SetHoldout
from gateway.controlplane.release import unborn
from gateway.errors import Refused
from gateway.routing.snapshot import BUCKETS, Canary, Holdout, Policy, Range, Release, Rule

RELEASE = Release("iris", 3, Policy(1, (Canary(2, (Range(0, 6_000),)),), salt="iris/2"))


def test_the_first_version_gets_everybody() -> None:
    assert policies.registered(unborn("iris"), Register(4)) == Policy(4)


def test_the_holdout_and_the_canaries_do_not_share_buckets() -> None:
    everybody = policies.with_holdout(RELEASE, SetHoldout(BUCKETS))
    assert everybody.holdout == Holdout(1, (Range(0, BUCKETS),), "iris/holdout/1")
    assert everybody.canaries == RELEASE.policy.canaries


def test_shares_have_an_end() -> None:
    with pytest.raises(Refused) as caught:
        policies.with_canary(RELEASE, SetCanary(3, 4_001))
    assert caught.value.reason == "SHARES_TOO_HIGH"


def test_an_abort_keeps_what_has_nothing_to_do_with_it() -> None:
    rule = Rule("x-team", ("qa",), "stable")
    policy = msgspec.structs.replace(RELEASE.policy, rules=(rule,), timeout_ms=250)
    assert policies.aborted(policy) == Policy(1, rules=(rule,), timeout_ms=250)
