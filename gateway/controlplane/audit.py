"""The audit log is a hash chain: each event's hash covers the hash before it, so no event can be changed, dropped or
put in without every later hash being wrong. Pure.

hash = SHA-256 (hex) of the previous event's hash (64 zeros before the first) followed by the event as JSON: every field
but `hash`, and but `kind` where that is `change`; keys sorted, no spaces, UTF-8, which `json.dumps(fields,
sort_keys=True, separators=(",", ":"), ensure_ascii=False)` gives.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.controlplane.canonical import canonical
from gateway.controlplane.commands import Declare, SetOverrides
from gateway.controlplane.release import Fact
from gateway.routing.snapshot import Release

CHANGE: Final = "change"
REFUSAL: Final = "refusal"
ACCESS: Final = "access"
GENESIS = "0" * 64
"""The hash before the first event."""
TOLD_OF_TOKENS: Final = ("id", "roles", "created_by", "created_ms", "expires_ms", "revoked_ms")
"""What accesses say of a token: not its hash, against which who knew it could try secrets at home."""
OVERRIDING: Final = str(SetOverrides.__struct_config__.tag)
DECLARING: Final = str(Declare.__struct_config__.tag)
"""The verbs of the commands that say which overrides there are."""


class Draft(msgspec.Struct, frozen=True):
    """An event before the store gives it its place. `before` (may be empty) and `after` are JSON of releases.

    In place of its overrides a policy has `override_list`: how many there are, the SHA-256 of their JSON (keys sorted,
    no spaces) and, after a command about them, what it set and removed. Without overrides it has neither.
    """

    time_ms: int
    actor: str
    verb: str
    model: str
    revision: int
    reason: str
    request_id: str
    before: str
    after: str
    kind: str = CHANGE
    """`change` of a release, to `revision`; `refusal` of what somebody asked for, or `access`: who may do what."""


class AuditEvent(Draft, frozen=True, kw_only=True):
    """One line of the audit log. Sequences are 1, 2, 3… over all models of a store."""

    sequence: int
    hash: str


def draft(fact: Fact, *, actor: str, reason: str, request_id: str) -> Draft:
    """The event of one fact."""
    return Draft(
        time_ms=fact.after.updated_ms,
        actor=actor,
        verb=fact.verb,
        model=fact.after.model,
        revision=fact.after.revision,
        reason=reason,
        request_id=request_id,
        before=_json(fact.before, {}) if fact.before.revision else "",
        after=_json(fact.after, _difference(fact)),
    )


def link(previous_hash: str, sequence: int, event: Draft) -> AuditEvent:
    """The event with its place in the chain."""
    fields = {name: getattr(event, name) for name in Draft.__struct_fields__} | {"sequence": sequence}
    told = {name: value for name, value in fields.items() if name != "kind" or value != CHANGE}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return AuditEvent(**fields, hash=hashlib.sha256(previous_hash.encode() + text.encode()).hexdigest())


def verify(events: Iterable[AuditEvent], previous_hash: str = GENESIS, sequence: int = 1) -> str | None:
    """What is wrong with the chain, in one line, or None. Events oldest first, the first one with that sequence."""
    for event in events:
        if event.sequence != sequence:
            return f"audit event {sequence} is missing: {event.sequence} follows {sequence - 1}"
        if link(previous_hash, sequence, event).hash != event.hash:
            return f"audit event {sequence} was changed: its hash does not match"
        previous_hash, sequence = event.hash, sequence + 1
    return None


def override_count(release: str) -> int:
    """How many overrides the policy had, of the JSON of a release in an event."""
    listed = msgspec.json.decode(release, type=dict[str, Any])["policy"].get("override_list", {})
    return int(listed.get("count", 0))


def tells_of(after: str, release: Release) -> bool:
    """Whether an event's `after` is about this release, as it is to the last field."""
    told = msgspec.json.decode(after, type=dict[str, Any])
    listed = told["policy"].get("override_list", {})
    for name in ("set", "removed"):
        listed.pop(name, None)
    if listed and not release.policy.overrides:  # it set or removed the last one
        del told["policy"]["override_list"]
    return bool(told == msgspec.json.decode(_json(release, {})))


def _difference(fact: Fact) -> dict[str, dict[str, str]]:
    """What a command about overrides did to them; that of others follows from the arms."""
    before, after = fact.before.policy.overrides, fact.after.policy.overrides
    if fact.verb != OVERRIDING and (fact.verb != DECLARING or before == after):
        return {}
    return {
        "set": {unit: arm for unit, arm in after.items() if before.get(unit) != arm},
        "removed": {unit: arm for unit, arm in before.items() if unit not in after},
    }


def told_of(release: Release, difference: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A release as events have it; `difference`: what a command has done to its overrides."""
    plain = canonical(release)
    _summarize(plain["policy"], difference or {})
    if release.rollback is not None:
        _summarize(plain["rollback"], {})
    return plain


def _json(release: Release, difference: Mapping[str, Any]) -> str:
    return msgspec.json.encode(told_of(release, difference)).decode()


def _summarize(policy: dict[str, Any], difference: Mapping[str, Any]) -> None:
    found = policy.pop("overrides", {})
    if found or difference:
        digest = hashlib.sha256(msgspec.json.encode(found, order="sorted")).hexdigest()
        policy["override_list"] = {"count": len(found), "sha256": digest, **difference}
