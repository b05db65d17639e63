import pytest

from gateway.cli import tables
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
