"""Checks the audit log's hash chain on the reader's side: a gateway cannot vouch for its own log. Pure."""

from collections.abc import Iterable

from gateway.controlplane.audit import CHANGE, AuditEvent, verify
from protos import admin_pb2 as pb


def broken(newest_first: Iterable[pb.AuditEvent]) -> str | None:
    """What is wrong with a whole log, in one line; None: nothing."""
    return verify(to_event(message) for message in reversed(list(newest_first)))


def to_event(message: pb.AuditEvent) -> AuditEvent:
    """An event of the admin API as it was stored."""
    return AuditEvent(
        time_ms=message.time.ToMilliseconds(),
        actor=message.actor,
        verb=message.verb,
        model=message.model,
        revision=message.revision,
        reason=message.reason,
        request_id=message.request_id,
        before=message.before,
        after=message.after,
        sequence=message.sequence,
        hash=message.hash,
        kind=message.kind or CHANGE,  # a gateway of before has no other
    )
