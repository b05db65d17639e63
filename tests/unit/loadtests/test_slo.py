"""Service-level objectives are read strictly."""

import tomllib
from pathlib import Path

import pytest

import loadtests
from loadtests import slo
from loadtests.slo import Slo, SloError


def parse(text: str) -> Slo:
    return slo.parse(tomllib.loads(text))


def test_a_whole_file() -> None:
    text = """
    [latency]
    p50 = "5ms"
    "p99.9" = "1s"
    max = "250ms"
    mean = "800us"
    [errors]
    max_rate = "0.1%"
    [throughput]
    min = "200/s"
    of_intended = "99%"
    [sample]
    min_requests = 1000
    """
    found = parse(text)
    assert dict(found.latency_us) == pytest.approx({"p50": 5000, "p99.9": 1e6, "max": 250e3, "mean": 800})
    assert (found.max_error_rate, found.min_rate, found.min_of_intended) == pytest.approx((0.001, 200, 0.99))
    assert found.min_requests == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no objective"),
        ("[sample]\nmin_requests = 5", "no objective"),
        ("[latencies]\np50 = '5ms'", r"unknown table \[latencies\]; known are \[latency\]"),
        ("latency = 5", "latency must be a table"),
        ("[latency]\nmedian = '5ms'", "unknown key latency.median"),
        ("[latency]\np100 = '5ms'", "unknown key latency.p100"),
        ("[latency]\np0 = '5ms'", "unknown key latency.p0"),
        ("[latency]\np99.9 = '5ms'", 'write the key in quotes: "p99.9"'),
        ("[latency]\np50 = 5", "latency.p50: 5 is not a duration such as"),
        ("[latency]\np50 = '5'", "latency.p50: '5' is not a duration such as"),
        ("[latency]\np50 = '5/s'", "latency.p50"),
        ("[errors]\nmax = '1%'", "unknown key errors.max; known are max_rate"),
        ("[errors]\nmax_rate = 0.001", "errors.max_rate: 0.001 is not a percentage"),
        ("[errors]\nmax_rate = '200%'", "more than 100%"),
        ("[throughput]\nmin = '200'", "throughput.min: '200' is not a rate"),
        ("[latency]\np50 = '5ms'\n[sample]\nmin_requests = 0", "whole number above 0"),
        ("[latency]\np50 = '5ms'\n[sample]\nmin_requests = true", "whole number above 0"),
        ("[latency]\np50 = '5ms'\n[sample]\nmin_requests = '1000'", "whole number above 0"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(SloError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(SloError, match=r"cannot read the SLO file .*: No such file"):
        slo.load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[latency\n")
    with pytest.raises(SloError, match=r"broken\.toml is not TOML"):
        slo.load(broken)
    broken.write_text("[latency]\np50 = 1\n")
    with pytest.raises(SloError, match=r"broken\.toml: latency\.p50"):
        slo.load(broken)


def test_the_example_is_valid() -> None:
    found = slo.load(Path(loadtests.__file__).with_name("slo.toml"))
    assert [metric for metric, _ in found.latency_us] == ["p50", "p90", "p99"]
    assert found.min_requests == 1000


def test_percentiles_by_name() -> None:
    assert slo.percentile("p99.9") == pytest.approx(0.999)
    assert [slo.percentile(name) for name in ("max", "p", "p100", "p0")] == [None] * 4
