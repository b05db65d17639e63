"""What a measurement becomes: JSON, a table, an exit code."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import loadtests
from loadtests import report
from loadtests.measurement import Measurement
from loadtests.slo import Slo
from tests.unit.loadtests.samples import measurement

STRICT = Slo((("p50", 20_000.0), ("p99", 5000.0)), max_error_rate=0.5, min_requests=100)
LOOSE = Slo((("p99", 1e6),), min_requests=100)


def printed(built: dict[str, Any]) -> str:
    out = io.StringIO()
    report.print_report(built, out)
    return out.getvalue()


def test_the_parts_and_what_they_say() -> None:
    built = json.loads(report.to_json(report.build(measurement(), STRICT, "slo.toml")))
    assert built["schema"] == "cutover-load-report/1"
    assert [stage["name"] for stage in built["stages"]] == ["warm-up", "before", "spike", "after"]
    measured = built["measured"]
    assert measured["intended"] == 400 + 600 + 400 + 3
    assert measured["errors"] == {"UNAVAILABLE": 28, "UNSENT": 3}
    assert measured["failed"] == 31 == measured["intended"] - measured["answered"]
    assert measured["error_rate"] == pytest.approx(31 / 1403)
    assert measured["latency_us"]["p99.9"] is None
    assert measured["latency_us"]["count"] == measured["answered"]
    assert measured["send_delay_us"]["p50"] == 100
    assert built["distribution"][-1] == [20000, measured["answered"]]
    assert sum(second["intended"] for second in built["series"]) == 100 + measured["intended"]
    assert built["verdict"]["result"] == "fail"
    assert [objective["result"] for objective in built["verdict"]["objectives"]] == ["pass", "fail", "pass"]


def test_every_field_is_documented() -> None:
    text = (Path(loadtests.__file__).parent / "README.md").read_text(encoding="utf-8").partition("## The report")[2]
    documented = set(re.findall(r"`([^`\s]+)`", text))
    built = report.build(measurement(), STRICT, "slo.toml")
    keys = (
        set(built) | set(built["conditions"]) | set(built["conditions"]["rows"]) | set(built["conditions"]["generator"])
    )
    keys |= set(built["verdict"]) | set(built["verdict"]["objectives"][0]) | set(built["stages"][0])
    keys |= set(built["measured"]) | set(built["measured"]["latency_us"]) | set(built["series"][0])
    assert keys <= documented


def test_the_table_names_everything_that_matters() -> None:
    text = printed(report.build(measurement(), STRICT, "slo.toml"))
    assert "spike: <digits> version 2, arm canary-2 at 127.0.0.1:8001, 100/s constant for 10 s, 20 users" in text
    assert "(warm-up)" in text
    assert "errors: UNAVAILABLE 28, UNSENT 3" in text
    assert "note: 3 requests were still waiting for a user at the end" in text
    assert "✗ p99 no answer > 5.00 ms (n = 1,403)" in text
    assert text.rstrip().endswith("verdict: fail")


def test_without_an_objective_there_is_no_verdict() -> None:
    built = report.build(measurement(), None)
    assert built["verdict"] is None
    assert report.exit_code(built) == 0
    assert "verdict" not in printed(built)


@pytest.mark.parametrize(
    ("slo", "failing", "code"),
    [(LOOSE, False, 0), (STRICT, True, 4), (Slo(max_error_rate=1, min_requests=9999), True, 4)],
)
def test_exit_codes(slo: Slo, failing: bool, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.conclude(measurement(failing=failing), slo, "slo.toml", None) == code
    assert "verdict:" in capsys.readouterr().out


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.conclude(measurement(), STRICT, "slo.toml", tmp_path / "new" / "folder")
    written = tmp_path / "new" / "folder" / "report.json"
    assert json.loads(written.read_text())["verdict"]["result"] == "fail"
    assert written.with_suffix(".html").read_text().startswith("<!doctype html>")
    assert str(written) in capsys.readouterr().out


def warnings(made: Measurement) -> str:
    return " ".join(report.build(made, None)["warnings"])


def test_warnings_say_what_the_numbers_hide() -> None:
    assert warnings(measurement(failing=False)) == ""
    assert "made up from the model's metadata" in warnings(measurement(failing=False, synthetic=True))
    assert "found all 20 users busy" in warnings(measurement(failing=False, waits=True))


def test_a_late_generator_is_named() -> None:
    made = measurement(failing=False)
    for number in range(100):
        made.recorder.intend(1, 2.0 + number / 1000, waits=False, late_s=0.05)
        made.recorder.record(1, 2.0 + number / 1000, 2.05, 2.06, "OK")
    assert "The load generator itself was late" in warnings(made)


def test_an_empty_measurement_can_be_shown() -> None:
    made = Measurement(measurement().conditions, type(measurement().recorder)(measurement().recorder.stages))
    assert "no answer" in printed(report.build(made, STRICT))
