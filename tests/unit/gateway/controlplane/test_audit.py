"""The chain of audit events."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.audit import (
    ACCESS,
    CHANGE,
    GENESIS,
    REFUSAL,
    AuditEvent,
    Draft,
    draft,
    link,
    override_count,
    verify,
)
from gateway.controlplane.commands import (
    Command,
    Declare,
    Declared,
    Flip,
    PrepareStandby,
    Register,
    SetCanary,
    SetOverrides,
)
from gateway.controlplane.release import apply, unborn
from gateway.routing.snapshot import Release

TEXT = st.text(st.characters(codec="utf-8"))


def chain(length: int = 4) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    release = unborn("iris")
    for number in range(1, length + 1):
        release, (fact,) = apply(release, SetCanary(2, number) if release.revision else Register(1), number)
        made = draft(fact, actor="ada", reason=f"step {number}", request_id="")
        events.append(link(events[-1].hash if events else GENESIS, number, made))
    return events


def test_an_event_tells_what_was_before_and_after() -> None:
    first, second = chain(2)
    assert (first.verb, first.revision, first.time_ms, first.before) == ("register", 1, 1, "")
    assert second.before == first.after
    assert msgspec.json.decode(second.after, type=Release).policy.canaries[0].version == 2


def told(*commands: Command) -> list[Draft]:
    release, events = unborn("iris"), []
    for command in commands:
        release, (fact,) = apply(release, command, 1)
        events.append(draft(fact, actor="ada", reason="", request_id=""))
    return events


def test_overrides_are_counted_and_their_changes_told() -> None:
    everybody = {f"user-{number}": "stable" for number in range(5000)}
    _, first, second, _, flip = told(
        Register(1),
        SetOverrides(everybody),
        SetOverrides({"user-1": "stable", "new": "stable"}, ("user-2", "nobody")),
        PrepareStandby(2),
        Flip(),
    )
    assert json.loads(first.after)["policy"]["override_list"]["set"] == everybody
    listed = json.loads(second.after)["policy"]["override_list"]
    left = {unit: arm for unit, arm in (everybody | {"new": "stable"}).items() if unit != "user-2"}
    digest = hashlib.sha256(json.dumps(left, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert listed == {"count": 5000, "sha256": digest, "set": {"new": "stable"}, "removed": {"user-2": "stable"}}
    assert json.loads(flip.after)["rollback"]["override_list"] == {"count": 5000, "sha256": digest}
    assert max(map(len, (second.before, second.after, flip.before, flip.after))) < 1000
    assert [override_count(each.after) for each in (first, second, flip)] == [5000, 5000, 5000]


def test_a_declaration_tells_what_it_did_to_overrides_if_it_did_anything() -> None:
    _, first, second, third = told(
        Register(1),
        Declare(Declared(overrides={"ann": "stable"}), ("overrides",)),
        Declare(Declared(timeout_ms=5, overrides={"ann": "stable"}), ("timeout_ms", "overrides")),
        Declare(Declared(), ("overrides",)),
    )
    listed = [json.loads(each.after)["policy"]["override_list"] for each in (first, second, third)]
    assert listed[0]["set"] == listed[2]["removed"] == {"ann": "stable"}
    assert set(listed[1]) == {"count", "sha256"}


def test_a_release_without_overrides_does_not_speak_of_them() -> None:
    (event,) = told(Register(1))
    assert "override" not in event.after
    assert override_count(event.after) == 0
    assert msgspec.json.decode(event.after, type=Release).policy.overrides == {}


def test_a_whole_chain_is_right_from_the_start_and_from_any_event_on() -> None:
    events = chain()
    assert verify([]) is None
    assert verify(events) is None
    assert verify(events[2:], events[1].hash, 3) is None


@pytest.mark.parametrize("field", [field for field in AuditEvent.__struct_fields__ if field != "sequence"])
def test_any_changed_field_is_seen(field: str) -> None:
    events = chain()
    value = getattr(events[1], field)
    events[1] = msgspec.structs.replace(events[1], **{field: value + 1 if isinstance(value, int) else value + "x"})
    assert verify(events) == "audit event 2 was changed: its hash does not match"


def test_a_missing_event_is_seen() -> None:
    events = chain()
    assert verify([events[0], *events[2:]]) == "audit event 2 is missing: 3 follows 1"


def test_an_event_that_was_put_in_is_seen() -> None:
    events = chain()
    forged = link("f" * 64, 2, events[1])
    assert verify([events[0], forged, *events[2:]]) == "audit event 2 was changed: its hash does not match"


@given(TEXT, TEXT, st.sampled_from([CHANGE, REFUSAL, ACCESS]))
def test_anyone_can_compute_the_hash_with_a_json_library(actor: str, reason: str, kind: str) -> None:
    linked = link(GENESIS, 1, Draft(1, actor, "flip", "iris", 2, reason, "", "", "{}", kind))
    fields = msgspec.structs.asdict(linked)
    found = fields.pop("hash")
    if kind == CHANGE:
        del fields["kind"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256((GENESIS + text).encode()).hexdigest() == found
