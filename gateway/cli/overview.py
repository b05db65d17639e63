"""A model as it stands: its release, the versions behind its arms, and what they did. Pure.

`cutover status` shows it as a table or a line, `-o json` as it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.cli import words
from gateway.cli.plain import to_plain
from gateway.routing.snapshot import BUCKETS, HOLDOUT, SHADOW, STABLE, STANDBY, Policy
from protos import admin_pb2 as pb


@dataclass(frozen=True, slots=True)
class Overview:
    """One model. `statistics` by (version, arm) since the gateway started."""

    release: pb.Release
    versions: dict[int, pb.Version]
    statistics: dict[tuple[int, str], pb.Statistics]

    @property
    def policy(self) -> Policy:
        return words.to_policy(self.release.policy)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "release": to_plain(self.release),
            "versions": [to_plain(version) for version in self.versions.values()],
            "statistics": [to_plain(found) for found in self.statistics.values()],
        }


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One line of a status table. `share` in words."""

    arm: str
    version: int
    share: str
    found: pb.Version
    did: pb.Statistics


def overviews(
    releases: Iterable[pb.Release], versions: Iterable[pb.Version], statistics: Iterable[pb.Statistics]
) -> list[Overview]:
    """Every release with what belongs to it, by model name."""
    found, did = list(versions), list(statistics)
    return [
        Overview(
            release,
            {one.version: one for one in found if one.model == release.model},
            {(one.version, one.arm): one for one in did if one.model == release.model},
        )
        for release in sorted(releases, key=lambda release: release.model)
    ]


def rows(overview: Overview) -> list[ArmRow]:
    """The arms and shadows of a release, in the order in which they matter."""
    return [
        ArmRow(
            *(arm, version, share),
            overview.versions.get(version, pb.Version(state=pb.Version.MISSING)),
            overview.statistics.get((version, arm), pb.Statistics()),
        )
        for arm, version, share in _arms(overview.policy)
    ]


def _arms(policy: Policy) -> Iterator[tuple[str, int, str]]:
    candidates = sum(canary.basis_points for canary in policy.canaries)
    yield STABLE, policy.stable, words.percent(BUCKETS - candidates)
    for canary in policy.canaries:
        yield canary.arm, canary.version, words.percent(canary.basis_points)
    if policy.standby is not None:
        yield STANDBY, policy.standby, "-"
    if policy.holdout is not None:
        yield HOLDOUT, policy.holdout.version, f"{words.percent(policy.holdout.basis_points)} held out"
    for shadow in policy.shadows:
        yield SHADOW, shadow.version, f"{words.rate(shadow.rate)} copied"


def requests(did: pb.Statistics) -> int:
    """Answers of any status; of a shadow: copies that it answered or failed, however many rows they had."""
    return sum(did.requests.values()) + did.shadow.failed


def errors(did: pb.Statistics) -> int:
    """Answers that are not OK; of a shadow: copies that failed or could not be compared."""
    if did.HasField("shadow"):
        return did.shadow.failed + did.shadow.incomparable
    return requests(did) - did.requests.get("OK", 0)


def one_line(overview: Overview) -> str:
    """A model in one line, for output that is not a terminal."""
    release = overview.release
    described = words.describe(overview.policy, release.policy.override_count)
    said = [f"{release.model} revision {release.revision}: {described}{', paused' if release.paused else ''}"]
    for row in rows(overview):
        if row.did.HasField("shadow"):
            shadow = row.did.shadow
            said.append(
                f"shadow {row.version}: {shadow.compared} rows, {words.share(shadow.agreed, shadow.compared)} agree"
            )
        elif requests(row.did):
            p99 = words.milliseconds(row.did.latency.p99_ms)
            said.append(f"{row.arm}: {requests(row.did)} requests, {errors(row.did)} errors, p99 {p99}")
    return "; ".join(said)
