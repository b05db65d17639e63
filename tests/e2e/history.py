"""What clients and operators saw of one model, and whether it keeps the promises. No sockets: a checker of records."""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.controlplane.etag import etag
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import Release
from protos import admin_pb2 as pb

NOTHING_CHANGED = ("ABORTED", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND")
"""Statuses of the admin API that promise that the change was not made."""


@dataclass(frozen=True)
class Answer:
    """One request of a user: when it was sent, when its answer came, and which version answered by which revision."""

    user: str
    asked_s: float
    came_s: float
    version: int = 0
    value: int = 0
    revision: int = 0
    error: str = ""

    @property
    def code(self) -> str:
        return self.error.partition(":")[0]


@dataclass
class Attempt:
    """One change that an operator asked for, perhaps several times with the same request id."""

    request_id: str
    verb: str
    asked_s: float
    tried_s: float
    """When it was sent for the last time."""
    returned_s: float = math.inf
    """When it was acknowledged."""
    revision: int = 0
    """The revision that was acknowledged; 0: none was."""
    etag: str = ""
    error: str = ""
    unsure: bool = False
    """An earlier try, at another gateway, got no clear answer: it may be carried out after a later one was refused."""


@dataclass(frozen=True)
class Window:
    """A time in which something was broken on purpose that clients may notice."""

    start_s: float
    end_s: float
    what: str


@dataclass
class History:
    """Everything that was seen. Threads only append."""

    answers: list[Answer] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    """When a control process said that it was ready: what the store had before is served everywhere from then on."""
    excusable: frozenset[str] = frozenset(("UNAVAILABLE",))
    """What answers may fail with in such a window."""

    def problems(self, events: Sequence[pb.AuditEvent], final: pb.Release) -> list[str]:
        """Broken promises, one line each. `events`: the audit log of the model, oldest first."""
        return [
            *self._wrong_records(events, final),
            *self._wrong_acknowledgements(events),
            *self._wrong_answers(events),
            *self._unexcused_errors(),
        ]

    def _wrong_records(self, events: Sequence[pb.AuditEvent], final: pb.Release) -> Iterable[str]:
        """Every change is wholly there: its event follows the one before and leads to the release that is served."""
        before = ""
        for number, event in enumerate(events, 1):
            if event.revision != number:
                yield f"event {event.sequence} is revision {event.revision}, not {number}"
            if event.before != before:
                yield f"revision {event.revision} does not start from what revision {event.revision - 1} left"
            before = event.after
        if not events or etag(_release(events[-1])) != final.etag:
            yield f"the audit log ends at {len(events)}, the release is {final.etag}"

    def _wrong_acknowledgements(self, events: Sequence[pb.AuditEvent]) -> Iterable[str]:
        made = {event.request_id: event.revision for event in events if event.request_id}
        for request_id, times in Counter(event.request_id for event in events if event.request_id).items():
            if times > 1:
                yield f"request {request_id} was carried out {times} times"
        for attempt in self.attempts:
            revision = made.get(attempt.request_id)
            if attempt.revision and revision not in (None, attempt.revision):
                yield f"{attempt.verb} was acknowledged as revision {attempt.revision} and kept as {revision}"
            kept = [etag(_release(event)) for event in events[attempt.revision - 1 : attempt.revision]]
            if attempt.revision and kept != [attempt.etag]:
                yield f"{attempt.verb} was acknowledged as revision {attempt.revision} {attempt.etag}; kept is {kept}"
            if attempt.error.startswith(NOTHING_CHANGED) and revision is not None and not attempt.unsure:
                yield f"{attempt.verb} was refused ({attempt.error}) and made revision {revision} all the same"

    def _wrong_answers(self, events: Sequence[pb.AuditEvent]) -> Iterable[str]:
        """An answer belongs to a revision that could be in force at some moment between question and answer."""
        releases = [_release(event) for event in events]
        asked_s, settled_s = self._times(events)
        for answer in self.answers:
            if answer.error:
                continue
            oldest = bisect.bisect_right(settled_s, answer.asked_s)
            newest = bisect.bisect_right(asked_s, answer.came_s)
            if not oldest <= answer.revision <= newest:
                yield f"{answer}: only revisions {oldest} to {newest} may answer"
            elif not answer.version == answer.value == assigned(releases[answer.revision - 1], answer.user):
                yield f"{answer}: version {assigned(releases[answer.revision - 1], answer.user)} is assigned"

    def _times(self, events: Sequence[pb.AuditEvent]) -> tuple[list[float], list[float]]:
        """By revision: the earliest moment it could be in force, and the latest from which no older one may answer."""
        attempts = {attempt.request_id: attempt for attempt in self.attempts}
        asked_s, settled_s = [-math.inf], [-math.inf]
        for event in events[1:]:  # the first is the registration, which nobody asked for
            attempt = attempts[event.request_id]
            asked_s.append(attempt.asked_s)
            if attempt.revision:
                settled_s.append(attempt.returned_s)
            else:
                settled_s.append(next((ready_s for ready_s in self.ready_s if ready_s > attempt.tried_s), math.inf))
        for later in range(len(settled_s) - 1, 0, -1):  # what settles a revision settles the ones before it
            settled_s[later - 1] = min(settled_s[later - 1], settled_s[later])
            asked_s[later - 1] = min(asked_s[later - 1], asked_s[later])
        return asked_s, settled_s

    def _unexcused_errors(self) -> Iterable[str]:
        for answer in self.answers:
            excused = any(window.start_s <= answer.came_s and answer.asked_s <= window.end_s for window in self.windows)
            if answer.error and not (excused and answer.code in self.excusable):
                yield f"{answer} while nothing was broken that excuses it"


def assigned(release: Release, user: str) -> int:
    """The version that answers the user under the release."""
    place = bucket(release.policy.salt, user)
    for canary in release.policy.canaries:
        if any(owned.start <= place < owned.end for owned in canary.ranges):
            return canary.version
    return release.policy.stable


def _release(event: pb.AuditEvent) -> Release:
    return msgspec.json.decode(event.after, type=Release)
