import pytest

from gateway.cli import tables
from gateway.controlplane.audit import draft
from gateway.controlplane.commands import Register, SetOverrides
from gateway.controlplane.release import apply, unborn
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import version


def test_lines_stay_whole_when_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = "word " * 30
    response = pb.ListVersionsResponse(versions=[version("a-rather-long-model-name", 1, ["stable"], error=error)])
    tables.show(tables.versions(response))
    assert error.strip() in capsys.readouterr().out


def test_text_of_others_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(tables.audit([pb.AuditEvent(sequence=1, reason="[bold]why[/bold] [link=x]")]))
    assert "[bold]why[/bold] [link=x]" in capsys.readouterr().out


def test_a_change_of_overrides_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    release, _ = apply(unborn("digits"), Register(1), 1)
    _, (fact,) = apply(release, SetOverrides({f"user-{number}": "stable" for number in range(1000)}), 2)
    event = draft(fact, actor="ada", reason="", request_id="")
    tables.show(tables.audit([pb.AuditEvent(sequence=2, verb=event.verb, model="digits", after=event.after)]))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "set-overrides" in line]
    assert line.endswith("stable 1, 1,000 overrides")


def test_what_was_given_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        pb.AuditEvent(
            sequence=1, verb="create-token", kind="access", after='{"id":"ci","roles":{"digits":"operator"}}'
        ),
        pb.AuditEvent(sequence=2, verb="fence", kind="access", after="{}"),
    ]
    tables.show(tables.audit(events))
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.endswith("ci: operator of digits")
    assert second.endswith("?")
