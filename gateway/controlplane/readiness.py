"""Which pools must be ready before a change may take effect. Pure.

Only what a change gives more to must be ready: taking traffic away from a broken version always works. What a version
gets because another one loses it counts for nothing, nor does what the version gets that was stable: it had all.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway.controlplane import ranges
from gateway.controlplane.commands import Command, PrepareStandby, Rollback, SetCanary, SetShadow
from gateway.routing.snapshot import Policy, Rule, arm_versions


class Needed(NamedTuple):
    """A pool; shadow copies have pools of their own."""

    version: int
    shadow: bool


def pools_needed(before: Policy, after: Policy, command: Command) -> tuple[Needed, ...]:
    """Pools that `Fleet.prepare` must bring up first, given what the command would change.

    A shadow or standby that is not ready must never hold up a way back. Whoever asks for a version again that is
    there already wants to hear whether it is ready.
    """
    if isinstance(command, Rollback):
        return grown(before, after)
    if before == after and isinstance(command, SetCanary | SetShadow | PrepareStandby):
        return (Needed(command.version, isinstance(command, SetShadow)),)
    return grown(before, after) + at_hand(before, after)


def grown(before: Policy, after: Policy) -> tuple[Needed, ...]:
    """The pools that answer more requests after than before."""
    versions = dict.fromkeys(_grown(before, after))
    versions.pop(before.stable, None)
    return tuple(Needed(version, shadow=False) for version in versions)


def at_hand(before: Policy, after: Policy) -> tuple[Needed, ...]:
    """The pools that answer nobody and have to be there all the same: of a new standby, and for more copies."""
    rates = {shadow.version: shadow.rate for shadow in before.shadows}
    needed = [Needed(one.version, shadow=True) for one in after.shadows if one.rate > rates.get(one.version, 0)]
    if after.standby not in (None, before.standby):
        needed.append(Needed(after.standby, shadow=False))
    return tuple(needed)


def _grown(before: Policy, after: Policy) -> Iterator[int]:
    if after.stable != before.stable:
        yield after.stable
    had = {canary.version: canary.ranges for canary in before.canaries if before.salt == after.salt}
    for canary in after.canaries:
        if not ranges.within(canary.ranges, had.get(canary.version, ())):
            yield canary.version
    kept, held = before.holdout, after.holdout
    if held and not (
        kept and (kept.version, kept.salt) == (held.version, held.salt) and ranges.within(held.ranges, kept.ranges)
    ):
        yield held.version
    yield from _sent(before, after)


def _sent(before: Policy, after: Policy) -> Iterator[int]:
    """The versions that overrides and rules send somebody to whom they did not send there before."""
    was, now = arm_versions(before), arm_versions(after)
    if after.overrides is not before.overrides or was != now:
        for unit, arm in after.overrides.items():
            if was.get(before.overrides.get(unit, "")) != now[arm]:
                yield now[arm]
    matched = dict(_matches(before.rules, was))
    for pair, version in _matches(after.rules, now):
        if matched.get(pair) != version:
            yield version


def _matches(rules: Iterable[Rule], versions: dict[str, int]) -> Iterator[tuple[tuple[str, str], int]]:
    """Which metadata leads to which version; the first match wins."""
    seen = set()
    for rule in rules:
        for value in rule.values:
            if (rule.key, value) not in seen:
                seen.add((rule.key, value))
                yield (rule.key, value), versions[rule.arm]
