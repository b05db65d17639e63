import pytest
import structlog

from gateway.controlplane.triton.logsettings import LogSettings
from gateway.errors import Forbidden, InvalidRequest
from gateway.logs import Lines
from gateway.routing.link import Errand
from protos import inference_pb2 as pb

Value = pb.LogSettingsRequest.SettingValue


async def ask(settings: LogSettings, **values: Value) -> dict[str, object]:
    message = pb.LogSettingsRequest(settings=values).SerializeToString()
    answer = pb.LogSettingsResponse.FromString(await settings(Errand(1, "", message, "ada")))
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "") for name, value in answer.settings.items()}


async def test_reading_is_always_possible() -> None:
    assert await ask(LogSettings(Lines(debug=True), may_change=False)) == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 1,
        "log_format": "ISO8601",
    }


async def test_changes_reach_the_log() -> None:
    lines = Lines()
    settings = LogSettings(lines, may_change=True)
    with structlog.testing.capture_logs() as logged:
        said = await ask(
            settings,
            log_info=Value(bool_param=False),
            log_warning=Value(bool_param=False),
            log_error=Value(bool_param=False),
            log_verbose_level=Value(uint32_param=3),
            log_format=Value(string_param="default"),
        )
    assert lines == Lines(debug=True, info=False, warning=False, error=False, iso_times=False)
    assert (said["log_verbose_level"], said["log_format"], said["log_info"]) == (3, "default", False)
    assert [(line["event"], line["peer"]) for line in logged] == [("log settings changed by a client", "ada")]
    await ask(settings, log_verbose_level=Value(uint32_param=0), log_format=Value(string_param="ISO8601"))
    assert (lines.debug, lines.iso_times) == (False, True)


async def test_without_leave_nothing_changes() -> None:
    lines = Lines()
    with pytest.raises(Forbidden, match=r"set change_settings = true under \[triton\]"):
        await ask(LogSettings(lines, may_change=False), log_info=Value(bool_param=False))
    assert lines == Lines()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("log_file", Value(string_param="/etc/passwd"), "goes to stderr"),
        ("log_colour", Value(bool_param=True), "'log_colour' is unknown"),
        ("log_info", Value(string_param="yes"), "takes a bool_param"),
        ("log_info", Value(), "takes a bool_param"),
        ("log_verbose_level", Value(bool_param=True), "takes a uint32_param"),
        ("log_format", Value(string_param="xml"), "'default' or 'ISO8601'"),
    ],
)
async def test_one_wrong_value_changes_nothing(name: str, value: Value, text: str) -> None:
    lines = Lines()
    with pytest.raises(InvalidRequest, match=text):
        await ask(LogSettings(lines, may_change=True), log_error=Value(bool_param=False), **{name: value})
    assert lines == Lines()
