"""Which pools must be ready before a change may take effect. Pure.

Only what a change gives more to must be ready (`reach`): taking traffic away from a broken version always works.
"""

from typing import NamedTuple

from gateway.controlplane import reach
from gateway.controlplane.commands import Command, PrepareStandby, Rollback, SetCanary, SetShadow
from gateway.routing.snapshot import Policy


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
    """The pools that answer more requests after than before. The version that was stable had all, and needs nothing."""
    versions = dict.fromkeys(gain.version for gain in reach.gained(before, after))
    versions.pop(before.stable, None)
    return tuple(Needed(version, shadow=False) for version in versions)


def at_hand(before: Policy, after: Policy) -> tuple[Needed, ...]:
    """The pools that answer nobody and have to be there all the same: for more copies, and of a new standby."""
    needed = tuple(Needed(gain.version, shadow=True) for gain in reach.copied(before, after))
    if after.standby is None or after.standby == before.standby:
        return needed
    return (*needed, Needed(after.standby, shadow=False))
