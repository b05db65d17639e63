"""One table of options for two command lines."""

import argparse
from pathlib import Path

import pytest

from loadtests import settings
from loadtests.settings import Settings, SettingsError


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    for option in settings.SHARED:
        parser.add_argument(option.flag, type=option.parse, default=option.default, choices=option.choices)
    options = parser.parse_args(arguments)
    options.model = "digits"
    return options


def made(*arguments: str, suite: str = "steady", duration_s: float = 10) -> Settings:
    options = parse(*arguments)
    return settings.from_options(options, suite, target="host:1", version="2", users=20, duration_s=duration_s)


def test_defaults() -> None:
    found = made()
    assert (found.rate, found.arrivals, found.arm, found.rows, found.warmup_s) == (100, "poisson", "auto", None, 2)
    assert [stage.name for stage in found.stages()] == ["warm-up", "steady"]


def test_everything_given() -> None:
    found = made(
        "--rate=250/s", "--arm=canary-2", "--rows=rows.npz", "--warmup=500ms", "--arrivals=constant", "--peak=5",
        "--connections=2", "--units=7", "--timeout=1s", "--seed=9", suite="spike",
    )  # fmt: skip
    assert (found.rate, found.arm, found.rows, found.warmup_s) == (250, "canary-2", Path("rows.npz"), 0.5)
    assert (found.arrivals, found.connections, found.units, found.timeout_s, found.seed) == ("constant", 2, 7, 1, 9)
    assert [stage.start_rate for stage in found.stages()] == [250, 250, 1250, 250]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--rate=0", 'not a rate such as "200"'),
        ("--rate=fast", 'not a rate such as "200"'),
        ("--rate=nan", 'not a rate such as "200"'),
        ("--warmup=2", 'not a duration such as "5ms"'),
        ("--connections=0", "'0' is not above 0"),
        ("--connections=two", "'two' is not a number"),
        ("--arrivals=never", "invalid choice"),
    ],
)
def test_mistakes(argument: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=message):
        parse(argument)


def test_contradictions() -> None:
    with pytest.raises(SettingsError, match="nothing would be measured"):
        made(duration_s=0)
    with pytest.raises(SettingsError, match="--timeout must be above 0s"):
        made("--timeout=0s")
    with pytest.raises(SettingsError, match="no spike"):
        made("--peak=0.5", suite="spike")
