"""LogSettings: which lines the control process writes, in Triton's words."""

from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from gateway.controlplane.triton.requests import read
from gateway.errors import Forbidden, InvalidRequest
from gateway.routing.link import Errand
from protos import inference_pb2 as pb

log = structlog.get_logger()

FORBIDDEN: Final = "clients may not change settings here; set change_settings = true under [triton] to let them"
KINDS: Final = {
    "log_info": "bool_param",
    "log_warning": "bool_param",
    "log_error": "bool_param",
    "log_verbose_level": "uint32_param",
    "log_format": "string_param",
}
"""Settings that may be changed, and the field that holds the value."""
ISO: Final = "ISO8601"
PLAIN: Final = "default"

Value = pb.LogSettingsRequest.SettingValue


class Lines(Protocol):
    """Which lines are written (`gateway.logs.Lines`)."""

    debug: bool
    info: bool
    warning: bool
    error: bool
    iso_times: bool


class LogSettings:
    """Answers LogSettings. `log_verbose_level` above 0 means lines for developers, however far above."""

    def __init__(self, lines: Lines, *, may_change: bool) -> None:
        self._lines = lines
        self._may_change = may_change
        self._verbose = int(lines.debug)

    async def __call__(self, errand: Errand) -> bytes:
        """Reads all settings, after changing those named, or none when one of them is wrong."""
        request = read(pb.LogSettingsRequest, errand.message)
        if request.settings:
            if not self._may_change:
                raise Forbidden(FORBIDDEN)
            for name, value in request.settings.items():
                _check(name, value)
            log.info("log settings changed by a client", peer=errand.peer)  # before: it may be the last line
            self._change(request.settings)
        return self._now().SerializeToString()

    def _change(self, values: Mapping[str, Value]) -> None:
        lines = self._lines
        for name, value in values.items():
            match name:
                case "log_info":
                    lines.info = value.bool_param
                case "log_warning":
                    lines.warning = value.bool_param
                case "log_error":
                    lines.error = value.bool_param
                case "log_verbose_level":
                    self._verbose = value.uint32_param
                    lines.debug = self._verbose > 0
                case "log_format":
                    lines.iso_times = value.string_param == ISO

    def _now(self) -> pb.LogSettingsResponse:
        lines, response = self._lines, pb.LogSettingsResponse()
        response.settings["log_file"].string_param = ""
        response.settings["log_info"].bool_param = lines.info
        response.settings["log_warning"].bool_param = lines.warning
        response.settings["log_error"].bool_param = lines.error
        response.settings["log_verbose_level"].uint32_param = self._verbose
        response.settings["log_format"].string_param = ISO if lines.iso_times else PLAIN
        return response


def _check(name: str, value: Value) -> None:
    """Raises InvalidRequest."""
    if name == "log_file":
        raise InvalidRequest("log_file cannot be changed: the log goes to stderr")
    kind = KINDS.get(name)
    if kind is None:
        raise InvalidRequest(f"log setting '{name}' is unknown; there are {', '.join(KINDS)}")
    if value.WhichOneof("parameter_choice") != kind:
        raise InvalidRequest(f"log setting {name} takes a {kind}")
    if name == "log_format" and value.string_param not in (ISO, PLAIN):
        raise InvalidRequest(f"log_format is '{PLAIN}' or '{ISO}'")
