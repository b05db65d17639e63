"""What the demo prints can be read, and typed."""

import pytest

from loadtests.demo.screen import Screen


def test_steps_commands_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.title("Title", "below")
    screen.step("First", "because")
    screen.command("cutover", "flip", "digits", "--reason", "it is better")
    screen.output("line one\n  line two " + "x" * 200 + "\n")
    screen.held("it held")
    screen.table(("what", "count"), [("many", 12345), ("share", "9.8%")])
    screen.step("Second", "because")
    screen.failed("it did not")
    assert screen.number == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Title", "below"]
    assert lines[3].startswith(" 1. First ──")
    assert lines[4:7] == ["     because", "     $ cutover flip digits --reason 'it is better'", "     line one"]
    assert lines[7] == "       line two " + "x" * 200
    assert lines[8] == "     ✓ it held"
    assert "12,345" in lines[10]
    assert lines[-1] == "✗ step 2 failed: it did not"
