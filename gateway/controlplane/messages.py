"""Our values as messages of `protos/admin.proto`. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.controlplane import names
from gateway.controlplane.audit import AuditEvent
from gateway.controlplane.etag import etag
from gateway.controlplane.ports import Applied, VersionStatus
from gateway.controlplane.store import Token
from gateway.controlplane.store.members import Member
from gateway.errors import Code
from gateway.observe.histogram import quantile_us
from gateway.observe.statistics import SeriesTotals, ShadowTotals, Statistics
from gateway.routing.snapshot import SHADOW, Holdout, Policy, Range, Release
from protos import admin_pb2 as pb

_STATES = {
    "found": pb.Version.FOUND,
    "loading": pb.Version.LOADING,
    "ready": pb.Version.READY,
    "failed": pb.Version.FAILED,
    "missing": pb.Version.MISSING,
    "unloading": pb.Version.UNLOADED,
    "unloaded": pb.Version.UNLOADED,
}
_ROLES = {"viewer": pb.VIEWER, "operator": pb.OPERATOR, "owner": pb.OWNER}
_NAMES = {code.value: code.name for code in Code}


def release_message(release: Release, applied: Iterable[Applied] = ()) -> pb.Release:
    """A release with its name and etag; `applied`: by whom, where it answers a change."""
    message = other_state_message(release)
    message.etag = etag(release)
    message.applied.extend(
        pb.Applied(gateway=one.gateway, proxy=one.proxy, took_ms=one.took_ms, fenced=one.fenced) for one in applied
    )
    return message


def other_state_message(release: Release) -> pb.Release:
    """A release as it was or would be. It has no etag: there is nothing to base a change on."""
    return pb.Release(
        name=names.release_name(release.model),
        model=release.model,
        revision=release.revision,
        policy=_policy(release.policy),
        rollback_policy=None if release.rollback is None else _policy(release.rollback),
        update_time=timestamp(release.updated_ms),
        sequence=release.sequence,
        paused=release.paused,
    )


def version_message(status: VersionStatus, release: Release | None) -> pb.Version:
    """A version, and what its model's release uses it for."""
    return pb.Version(
        name=names.version_name(status.model, status.version),
        model=status.model,
        version=status.version,
        digest=status.digest,
        state=_STATES[status.state],
        error=status.error,
        roles=[] if release is None else roles(release, status.version),
        inputs=[pb.Tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in status.inputs],
        outputs=[pb.Tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in status.outputs],
        batched=status.batched,
        instances_ready=status.instances_ready,
        instances=status.instances,
        restarts=status.restarts,
    )


def roles(release: Release, version: int) -> list[str]:
    """What a release uses a version for; `rollback`: only a rollback would bring it back."""
    policy, rollback = release.policy, release.rollback
    found = [role for role, versions in _users(policy) if version in versions]
    if not found and rollback is not None and any(version in versions for _, versions in _users(rollback)):
        found.append("rollback")
    return found


def event_message(event: AuditEvent) -> pb.AuditEvent:
    """An audit event with its hash."""
    return pb.AuditEvent(
        sequence=event.sequence,
        time=timestamp(event.time_ms),
        actor=event.actor,
        verb=event.verb,
        model=event.model,
        revision=event.revision,
        reason=event.reason,
        request_id=event.request_id,
        before=event.before,
        after=event.after,
        hash=event.hash,
        kind=event.kind,
    )


def gateway_message(member: Member, *, silent: bool, answering: bool) -> pb.Gateway:
    """A gateway on the store."""
    return pb.Gateway(
        name=names.gateway_name(member.id),
        gateway=member.id,
        incarnation=member.incarnation,
        applied_sequence=member.report.applied_sequence,
        heard_ms=round(member.age_s * 1000, 3),
        silent=silent,
        lease_ms=member.report.lease_ms,
        answering=answering,
    )


def token_message(token: Token) -> pb.Token:
    """A token without what only its holder knows."""
    return pb.Token(
        name=names.token_name(token.id),
        roles={model: found for model, word in token.roles.items() if (found := _ROLES.get(word)) is not None},
        created_by=token.created_by,
        create_time=timestamp(token.created_ms),
        expire_time=timestamp(token.expires_ms) if token.expires_ms else None,
        revoke_time=timestamp(token.revoked_ms) if token.revoked_ms else None,
    )


def statistics_messages(statistics: Statistics, model: str | None) -> list[pb.Statistics]:
    """Every arm that answered and every shadow, of one or all models, by model, version and arm."""
    found = [_series(*key, totals) for key, totals in statistics.series.items() if model in (None, key[0])]
    found += [_shadow(*key, totals) for key, totals in statistics.shadows.items() if model in (None, key[0])]
    return sorted(found, key=lambda one: (one.model, one.version, one.arm))


def proxy_messages(statistics: Statistics) -> list[pb.Proxy]:
    """Every proxy that has ever reported, by index."""
    return [
        pb.Proxy(
            index=one.index,
            up=one.up,
            connections=one.connections,
            in_flight=one.in_flight,
            requests=one.requests,
        )
        for one in statistics.proxies
    ]


def overrides_message(release: Release, units: Iterable[str], size: int, after: str) -> pb.ListOverridesResponse:
    """At most `size` overrides of a release by unit, those that follow the unit `after`; `units`: only these, unless
    empty.
    """
    known = release.policy.overrides
    wanted = set(units) & known.keys() if (units := tuple(units)) else known
    found = sorted(unit for unit in wanted if unit > after)
    page = found[:size]
    return pb.ListOverridesResponse(
        overrides=[pb.Override(unit=unit, arm=known[unit]) for unit in page],
        revision=release.revision,
        next_page_token=page[-1] if len(page) < len(found) else "",
    )


def _series(model: str, version: int, arm: str, totals: SeriesTotals) -> pb.Statistics:
    requests: Counter[str] = Counter()
    for code, count in totals.codes.items():
        requests[_NAMES.get(code, Code.UNKNOWN.name)] += count
    return pb.Statistics(
        model=model,
        version=version,
        arm=arm,
        requests=requests,
        latency=_latency(totals.latency, totals.latency_sum_us, totals.latency_max_us),
        queue=_latency(totals.queue, totals.queue_sum_us, totals.queue_max_us),
    )


def _shadow(model: str, version: int, totals: ShadowTotals) -> pb.Statistics:
    return pb.Statistics(
        model=model,
        version=version,
        arm=SHADOW,
        requests={Code.OK.name: max(0, totals.copies - totals.dropped - totals.failed)},
        latency=_latency(totals.latency, totals.latency_sum_us, totals.latency_max_us),
        shadow=pb.ShadowStatistics(
            compared=totals.compared,
            agreed=totals.agreed,
            dropped=totals.dropped,
            failed=totals.failed,
            incomparable=totals.incomparable,
            max_absolute_difference=totals.max_abs_difference,
        ),
    )


def _latency(counts: Mapping[int, int], sum_us: int, max_us: int) -> pb.Latency:
    count = sum(counts.values())
    if not count:
        return pb.Latency()
    # A quantile is interpolated inside its bucket, so it could come out above the largest value that was really seen.
    p50, p90, p99 = (min(quantile_us(counts, fraction), max_us) / 1_000 for fraction in (0.50, 0.90, 0.99))
    mean_ms = sum_us / count / 1_000
    return pb.Latency(count=count, mean_ms=mean_ms, p50_ms=p50, p90_ms=p90, p99_ms=p99, max_ms=max_us / 1_000)


def _policy(policy: Policy) -> pb.Policy:
    return pb.Policy(
        stable_version=policy.stable,
        canaries=[
            pb.Canary(
                version=canary.version,
                basis_points=canary.basis_points,
                ranges=_ranges(canary.ranges),
            )
            for canary in policy.canaries
        ],
        shadows=[pb.Shadow(version=shadow.version, rate=shadow.rate) for shadow in policy.shadows],
        standby_version=policy.standby or 0,
        salt=policy.salt,
        override_count=len(policy.overrides),
        holdout=None if policy.holdout is None else _holdout(policy.holdout),
        rules=[pb.Rule(key=rule.key, values=rule.values, arm=rule.arm) for rule in policy.rules],
        assignment=None if policy.assignment is None else pb.Assignment(**msgspec.structs.asdict(policy.assignment)),
        timeout_ms=policy.timeout_ms,
    )


def _holdout(holdout: Holdout) -> pb.Holdout:
    return pb.Holdout(
        version=holdout.version,
        basis_points=holdout.basis_points,
        ranges=_ranges(holdout.ranges),
        salt=holdout.salt,
    )


def _ranges(ranges: Iterable[Range]) -> list[pb.BucketRange]:
    return [pb.BucketRange(start=owned.start, end=owned.end) for owned in ranges]


def _users(policy: Policy) -> Iterable[tuple[str, tuple[int | None, ...]]]:
    yield "stable", (policy.stable,)
    yield "canary", tuple(canary.version for canary in policy.canaries)
    yield "shadow", tuple(shadow.version for shadow in policy.shadows)
    yield "standby", (policy.standby,)
    yield "holdout", (policy.holdout.version if policy.holdout else None,)


def timestamp(milliseconds: int) -> Timestamp:
    """Milliseconds since the epoch."""
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time
