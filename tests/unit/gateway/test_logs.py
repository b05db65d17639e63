import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = True
    structlog.reset_defaults()
    logs.lines.level("info")
    logs.lines.iso_times = True


def test_json_lines_hold_our_events_and_those_of_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    structlog.get_logger().info("model ready", model="digits", version=1)
    structlog.get_logger().debug("not this")
    logging.getLogger("library").warning("careful with %s", "this")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["model"], ours["version"], ours["level"]) == ("model ready", "digits", 1, "info")
    assert (theirs["event"], theirs["level"]) == ("careful with this", "warning")


def test_text_lines_carry_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "warning")
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("it failed", model="digits")
    logging.getLogger("uvicorn").info("chatter")
    said = capsys.readouterr().err
    assert "it failed model=digits" in said
    assert "ValueError: no" in said
    assert "chatter" not in said


def test_what_is_written_may_change_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    early = structlog.get_logger().bind(early=True)

    def written() -> list[str]:
        for say in (early.debug, early.info, early.warning, early.error):
            say("said")
        logging.getLogger("library").error("said")
        return [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]

    assert written() == ["info", "warning", "error", "error"]
    logs.lines.info = logs.lines.error = False
    assert written() == ["warning"]
    logs.lines.level("debug")
    assert written() == ["debug", "info", "warning", "error", "error"]
    logs.lines.level("error")
    assert written() == ["error", "error"]


def test_times_as_tritons_log_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logs.lines.iso_times = False
    structlog.get_logger().info("said")
    logging.getLogger("library").warning("said")
    for line in capsys.readouterr().err.splitlines():
        assert re.fullmatch(r"\d{4} \d\d:\d\d:\d\d\.\d{6}", json.loads(line)["timestamp"])
