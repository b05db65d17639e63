"""The gateways on one store, as one of them sees the others: who must still confirm a change, and who need not. Pure.

Times are of the monotonic clock of whoever looks; nobody's wall clock is believed, the database's neither. A gateway
renews its row; as long as its row says what it said, its last renewal was sent before that was first seen. So once the
row has stood still for longer than the lease in it, all proxies of that gateway have stopped by themselves: they count
from before the renewal was sent. Whoever finds that removes the row, if it still stands still.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from gateway.controlplane.store.members import Member

DRIFT: Final = 0.01
"""By how much a clock may run faster than another. Quartz stays below a thousandth."""
BEAT_S: Final = 1.0
"""How often a gateway renews its row."""
SILENT_S: Final = 5 * BEAT_S
"""A gateway that has not for so long is not asked to prepare anything."""


class Sighting(msgspec.Struct, frozen=True):
    """What a gateway's row says, and since when it was seen to say that."""

    member: Member
    since_s: float

    @property
    def lapses_s(self) -> float:
        """From when on no proxy of this gateway answers, unless its row changes; infinity: it has promised nothing."""
        lease_s = self.member.report.lease_ms / 1000
        return self.since_s + lease_s * (1 + DRIFT) if lease_s else math.inf

    def silent(self, now_s: float) -> bool:
        """It has not renewed its row for longer than it would if all was well, or than its proxies wait for that."""
        return now_s - self.since_s > SILENT_S or now_s >= self.lapses_s


def sight(before: Mapping[str, Sighting], rows: Iterable[Member], now_s: float) -> dict[str, Sighting]:
    """What is known of each gateway once these rows have been read; `now_s`: after they were."""
    found = {}
    for row in rows:
        known = before.get(row.id)
        same = known is not None and _beat(known.member) == _beat(row)
        found[row.id] = Sighting(row, known.since_s if known is not None and same else now_s)
    return found


def _beat(member: Member) -> tuple[str, datetime]:
    return member.incarnation, member.heartbeat


def owing(sightings: Iterable[Sighting], sequence: int) -> list[Sighting]:
    """The gateways that have not confirmed the change with that sequence."""
    return [one for one in sightings if one.member.report.applied_sequence < sequence]


def lapsed(sightings: Iterable[Sighting], now_s: float) -> list[Sighting]:
    """The gateways whose proxies have stopped by themselves, if their rows still stand still."""
    return [one for one in sightings if now_s >= one.lapses_s]


class Pledge(msgspec.Struct, frozen=True):
    """What one gateway promises the others: that its proxies stop by themselves when it cannot renew its row.

    It promises only what its proxies hold already, and lets them off only once the row does not say it any more. While
    nobody else is on the store nothing is promised: then losing the store is no reason to stop.
    """

    lease_s: float
    """0: it serves on whatever happens (store.cut_off)."""
    peers: bool = False
    """There were others when it looked last."""
    held: bool = False
    """Every proxy stops at the end of its lease."""

    @property
    def promised_s(self) -> float:
        """What to write in the row."""
        return self.lease_s if self.held and self.peers else 0.0

    def renewed(self, written_s: float, *, peers: bool) -> "Pledge":
        """After its row was renewed, and said `written_s`.

        If `held`, the proxies may answer until the lease is over, counted from before that renewal was sent; else for
        ever. Before a pledge that is held for the first time is written, every proxy must have heard of it.
        """
        held = self.lease_s > 0 and (peers or written_s > 0)
        return Pledge(self.lease_s, peers, held)
