"""What the control process writes to stderr: its own events and those of the libraries in it, in one format."""

import logging
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
CHATTY: Final = ("uvicorn", "sqlalchemy", "alembic", "aiosqlite", "asyncio")
"""Libraries that say too much below a warning."""


@dataclass(slots=True)
class Lines:
    """Which lines are written, and how their times are; may be changed while the process runs."""

    debug: bool = False
    info: bool = True
    warning: bool = True
    error: bool = True
    iso_times: bool = True
    """ISO 8601, in UTC; else month and day, then the time, as Triton's log has them."""

    def level(self, level: str) -> None:
        """Everything from this level on: debug, info, warning or error."""
        lowest = LEVELS[level]
        self.debug, self.info, self.warning, self.error = (number >= lowest for number in LEVELS.values())

    def wants(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno < logging.INFO:
            return self.debug
        if record.levelno < logging.WARNING:
            return self.info
        return self.warning if record.levelno < logging.ERROR else self.error


lines: Final = Lines()
"""Of this process."""

_stamp_iso = structlog.processors.TimeStamper(fmt="iso", utc=True)
_stamp_triton = structlog.processors.TimeStamper(fmt="%m%d %H:%M:%S.%f", utc=True)


def configure(written: Literal["text", "json"], level: str) -> None:
    """Sets up structlog and the standard library's logging for this process. `level`: debug, info, warning or error."""
    lines.level(level)
    common: list[structlog.typing.Processor] = [structlog.stdlib.add_log_level, _stamp]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger("debug"),  # `lines` decides, and may change its mind
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lines.wants)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(written)],
        )
    )
    logging.raiseExceptions = False  # a reader of stderr that left must not disturb the gateway
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _stamp(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return (_stamp_iso if lines.iso_times else _stamp_triton)(logger, method, event)


def _renderers(written: Literal["text", "json"]) -> list[structlog.typing.Processor]:
    if written == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=plain)]
