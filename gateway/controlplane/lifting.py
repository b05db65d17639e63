"""Releases of a store that was put back to an older state, as changes that are newer than any that was served. Pure.

So nobody who has seen the newer ones takes these for old, and an etag never names two states.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.controlplane import audit
from gateway.controlplane.release import Fact
from gateway.routing.snapshot import Release

VERB: Final = "restore"
"""In the audit log."""
LEAP: Final = 1_000
"""Sequences begin so far above those that are known: another gateway may have served a few more."""


class Lift(msgspec.Struct, frozen=True):
    """A release as it is in the store, as it is to be, and the event of that."""

    before: Release
    after: Release
    event: audit.Draft


def lifts(
    stored: Mapping[str, Release], seen: Mapping[str, Release], now_ms: int, actor: str, reason: str
) -> list[Lift]:
    """What is to be committed, in this order. Releases that are as new as those that were seen stay as they are."""
    newest = max((release.sequence for release in (*stored.values(), *seen.values())), default=0)
    found: list[Lift] = []
    for model in sorted(stored.keys() & seen.keys()):
        before, known = stored[model], seen[model]
        if before.sequence > known.sequence or before == known:
            continue
        after = msgspec.structs.replace(
            before,
            revision=max(before.revision, known.revision) + 1,
            sequence=newest + LEAP + len(found),
            updated_ms=now_ms,
        )
        event = audit.draft(Fact(VERB, before, after), actor=actor, reason=reason, request_id="")
        found.append(Lift(before, after, event))
    return found


def newest(*views: Mapping[str, Release]) -> dict[str, Release]:
    """Of each model the release with the highest sequence."""
    found: dict[str, Release] = {}
    for view in views:
        for model, release in view.items():
            if model not in found or found[model].sequence < release.sequence:
                found[model] = release
    return found
