"""What gives versions that are not stable more requests: refused while a release is paused. Pure."""

from collections.abc import Iterator
from typing import Final

from gateway.controlplane import reach
from gateway.errors import Refusal, Refused
from gateway.routing.snapshot import Policy, Release, arm_versions

_WORDS: Final = {
    "stable": "version {0.version} would become stable",
    "canary": "version {0.version} would answer more users",
    "shadow": "version {0.version} would get more copies",
    "holdout": "version {0.version} would hold out more users",
    "override": "unit {0.of!r} would be sent to version {0.version}",
    "rule": "a rule for {0.of!r} would send more requests to version {0.version}",
}


def check(release: Release, after: Policy) -> None:
    """Raises Refused when a paused release would expose more than it does."""
    for grown in _grown(release.policy, after):
        said = f"{release.model} is paused, and {grown}; resume it first"
        raise Refused(said, Refusal.PAUSED)


def _grown(before: Policy, after: Policy) -> Iterator[str]:
    """In words, each thing that gives a version that was not stable more."""
    for gains in (reach.gained(before, after), reach.copied(before, after)):
        for gain in gains:
            if gain.version != before.stable:
                yield _WORDS[gain.by].format(gain)
    # Whoever is found as another unit, or may choose an arm, can come to any.
    others = {*arm_versions(after).values()} - {before.stable}
    if others and after.assignment != before.assignment:
        yield "units would be found in another way, and so be spread anew"
