import io
import sqlite3
from pathlib import Path

import msgspec
import pytest

from gateway.cli.chain import to_event
from gateway.controlplane.audit import AuditEvent, Draft, link
from gateway.controlplane.auditfile import line
from gateway.routing.snapshot import Canary, Policy, Range, Release
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import FakeAdmin, Shell


def log(admin: FakeAdmin, count: int) -> None:
    """Fills the fake's audit log with a whole chain."""
    previous = "0" * 64
    for number in range(1, count + 1):
        policy = Policy(1, (Canary(2, (Range(0, number),)),))
        after = msgspec.json.encode(Release("digits", number, policy)).decode()
        draft = Draft(
            1_700_000_000_123 + number, "ann@ops", "set canary", "digits", number, f"try {number}", "id", "", after
        )
        event = link(previous, number, draft)
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "time_ms"}
        message = pb.AuditEvent(**fields)
        message.time.FromMilliseconds(event.time_ms)
        admin.events.insert(0, message)
        previous = event.hash


def test_audit_shows_who_changed_what_and_why(cutover: Shell) -> None:
    log(cutover.admin, 7)
    lines = cutover("audit", "--limit", "5").out.splitlines()
    assert len(lines) == 6
    assert "ann@ops  set canary  digits" in lines[1]
    assert "stable 1, canary 2 (0.07 %)" in lines[1]
    assert lines[1].rstrip().endswith("try 7")
    events = cutover("audit", "-o", "json").json["events"]
    assert [event["sequence"] for event in events] == [7, 6, 5, 4, 3, 2, 1]
    assert events[0]["time"] == "2023-11-14T22:13:20.130Z"


def test_audit_says_that_a_release_is_paused(cutover: Shell) -> None:
    after = msgspec.json.encode(Release("digits", 2, Policy(1), paused=True)).decode()
    cutover.admin.events = [pb.AuditEvent(sequence=2, verb="pause", after=after)]
    assert "stable 1, paused" in cutover("audit").out


def test_audit_shows_an_event_it_does_not_understand(cutover: Shell) -> None:
    cutover.admin.events = [pb.AuditEvent(sequence=1, verb="dance", after="{}")]
    assert "dance" in cutover("audit").out


def test_audit_verifies_the_chain(cutover: Shell) -> None:
    log(cutover.admin, 7)
    assert cutover("audit", "--verify").out == "7 events, every hash follows from the last\n"
    assert cutover("audit", "--verify", "-o", "json").json == {"verified": 7}
    cutover.admin.events[3].reason = "something else"
    said = cutover("audit", "--verify")
    assert (said.code, said.out) == (1, "")
    assert "audit event 4 was changed" in said.err


def test_the_chain_of_one_model_alone_cannot_be_verified(cutover: Shell) -> None:
    assert cutover("audit", "digits", "--verify").code == 2


def test_part_of_the_chain_cannot_be_verified_or_exported(cutover: Shell, tmp_path: Path) -> None:
    log(cutover.admin, 2)
    cutover.admin.hidden_events = 1
    for command in (("audit", "--verify"), ("audit", "export")):
        said = cutover(*command)
        assert (said.code, "for viewers of all models" in said.err) == (1, True)
    assert cutover("audit", "export", "--out", str(tmp_path / "audit.jsonl")).code == 1
    assert list(tmp_path.iterdir()) == []
    assert cutover("audit").code == 0


def test_newest_events_that_are_hidden_are_no_end_of_the_log(cutover: Shell) -> None:
    log(cutover.admin, 4)
    cutover.admin.hidden = {3, 4}
    said = cutover("audit", "export")
    assert (said.code, said.out) == (1, "")


def test_what_was_exported_is_verified_without_a_gateway(cutover: Shell, tmp_path: Path) -> None:
    log(cutover.admin, 7)
    file = tmp_path / "audit.jsonl"
    assert cutover("audit", "export", "--out", str(file)).out == f"7 events in {file}\n"
    said = cutover.local("audit", "verify", str(file)).out
    newest = cutover.admin.events[0].hash
    assert said == f"7 events, every hash follows from the last; the newest is {newest}\n"
    assert cutover.local("audit", "verify", str(file), "-o", "json").json == {"verified": 7, "hash": newest}
    assert cutover("audit", "export", "--out", str(file)).code == 2  # never over a file


def test_an_export_goes_on_where_the_last_one_ended(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    log(cutover.admin, 7)
    monkeypatch.setattr("gateway.cli.admin.PAGE", 2)
    whole = cutover("audit", "export").out
    rest = cutover("audit", "export", "--after", "3").out
    assert whole.count("\n") == 7
    assert whole.endswith(rest)
    assert rest.count("\n") == 4
    assert cutover("audit", "export", "--after", "7").out == ""


def exported(count: int) -> bytes:
    admin = FakeAdmin()
    log(admin, count)
    return b"".join(line(to_event(message)) for message in reversed(admin.events))


def test_stdin_is_read(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(exported(2))))
    assert cutover.local("audit", "verify", "-").out.startswith("2 events")


def test_an_end_that_was_cut_off_is_found_by_a_hash_of_before(cutover: Shell, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    whole = exported(3)
    lines = whole.splitlines(keepends=True)
    newest = msgspec.json.decode(lines[-1], type=AuditEvent).hash
    file.write_bytes(whole)
    assert cutover.local("audit", "verify", str(file), "--hash", newest).code == 0
    file.write_bytes(b"".join(lines[:-1]))
    assert cutover.local("audit", "verify", str(file)).code == 0
    said = cutover.local("audit", "verify", str(file), "--hash", newest)
    assert (said.code, f"no event has the hash {newest}" in said.err) == (1, True)
    file.write_bytes(b"".join(lines[1:]))
    assert "audit event 1 is missing" in cutover.local("audit", "verify", str(file)).err


@pytest.mark.parametrize("arguments", [(), ("a", "--state", "b"), ("missing.jsonl",)])
def test_something_must_be_named_to_be_verified(cutover: Shell, arguments: tuple[str, ...]) -> None:
    assert cutover.local("audit", "verify", *arguments).code == 2


def test_a_folder_without_a_store_is_no_state(cutover: Shell, tmp_path: Path) -> None:
    said = cutover.local("audit", "verify", "--state", str(tmp_path))
    assert (said.code, "with store.url the log is in the database" in said.err) == (2, True)


def test_a_store_that_is_none_is_named(cutover: Shell, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cutover.db") as db:
        db.execute("CREATE TABLE audit (sequence INTEGER)")
    db.close()
    said = cutover.local("audit", "verify", "--state", str(tmp_path))
    assert (said.code, "an older Cutover" in said.err) == (1, True)
