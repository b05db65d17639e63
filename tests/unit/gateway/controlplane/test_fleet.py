import pytest

from gateway.controlplane.fleet import pools_named
from gateway.routing.snapshot import Canary, Policy, Range, Release, Shadow


def test_the_warm_set_is_everything_that_may_have_to_answer_at_once() -> None:
    policy = Policy(3, (Canary(4, (Range(0, 100),)),), (Shadow(5, 1.0), Shadow(3, 0.1)), standby=6)
    rollback = Policy(1, (Canary(2, (Range(0, 1),)),), (Shadow(9, 1.0),), standby=3)
    assert pools_named([Release("m", 1, policy, rollback), Release("n", 1, Policy(7))]) == {
        *(("m", version, False) for version in (1, 2, 3, 4, 6)),
        ("m", 5, True),
        ("m", 3, True),
        ("n", 7, False),
    }


@pytest.mark.parametrize("releases", [[], [Release("m", 1, Policy(1))]])
def test_a_model_without_candidates_needs_only_what_is_stable(releases: list[Release]) -> None:
    assert pools_named(releases) == {(release.model, 1, False) for release in releases}
