import json
import logging
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
