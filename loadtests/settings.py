"""What can be asked of a load test: one table of options for our command line, Locust's, and the environment."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import schedule, units

AUTO_ARM = "auto"
ANY_ARM = "any"


class SettingsError(ValueError):
    """The settings contradict each other; one line."""


@dataclass(frozen=True)
class Settings:
    """One load test."""

    suite: str
    target: str
    """host:port"""
    model: str
    version: str
    """The version that must answer; empty: any."""
    arm: str
    rows: Path | None
    rate: float
    """Requests per second that are to arrive, whatever the answers do."""
    users: int
    """Requests in flight at most."""
    duration_s: float
    """Without the warm-up."""
    warmup_s: float
    arrivals: str
    peak: float
    connections: int
    units: int
    """How many different `x-user-id` values the requests carry."""
    timeout_s: float
    seed: int

    def stages(self) -> tuple[schedule.Stage, ...]:
        """The suite's stages."""
        return schedule.build(self.suite, self.duration_s, self.rate, self.warmup_s, self.peak)


@dataclass(frozen=True)
class Option:
    """One `--flag`, also read from the environment variable `CUTOVER_LOAD_<FLAG>` inside Locust."""

    flag: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def dest(self) -> str:
        """The attribute of the parsed options."""
        return self.flag.lstrip("-").replace("-", "_")


def _positive(kind: Callable[[str], float]) -> Callable[[str], Any]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except units.UnitError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
        return value

    return parse


def duration(text: str) -> float:
    """Seconds of a `--duration`; 0 is written `0s`."""
    try:
        return units.duration_s(text)
    except units.UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rate(text: str) -> float:
    """`200` or `200/s`."""
    try:
        return float(_positive(float)(text.removesuffix("/s")))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a rate such as "200" or "200/s"') from None


whole = _positive(int)

SHARED = (
    Option("--arm", str, AUTO_ARM, "stable, canary-<version>, standby; auto: the arm that serves the version; any"),
    Option("--rows", str, None, "rows to send (.npz, .npy, .csv, .jsonl); without: made up from the metadata"),
    Option("--rate", rate, 100.0, "requests per second that arrive, whatever the answers do"),
    Option("--arrivals", str, "poisson", "poisson: independent users; constant: even gaps", schedule.ARRIVALS),
    Option("--warmup", duration, 2.0, "first part of the load, not judged (0s: none)"),
    Option("--peak", _positive(float), 3.0, "height of the spike suite's spike, in multiples of the rate"),
    Option("--connections", whole, 4, "connections the requests are spread over"),
    Option("--units", whole, 1000, "how many different x-user-id values the requests carry"),
    Option("--timeout", duration, 5.0, "deadline of each request"),
    Option("--seed", int, 0, "seed of arrivals and of made-up rows"),
)  # fmt: skip


def from_options(options: Any, suite: str, *, target: str, version: str, users: int, duration_s: float) -> Settings:
    """Settings from parsed options. Raises SettingsError."""
    if duration_s <= 0:
        raise SettingsError(
            "nothing would be measured: the duration must be above 0 and the run longer than the warm-up"
        )
    if options.timeout <= 0:
        raise SettingsError("--timeout must be above 0s")
    if suite == "spike" and options.peak < 1:
        raise SettingsError("--peak below 1 is no spike")
    return Settings(
        suite=suite,
        target=target,
        model=options.model,
        version=version,
        arm=options.arm,
        rows=Path(options.rows) if options.rows else None,
        rate=options.rate,
        users=users,
        duration_s=duration_s,
        warmup_s=options.warmup,
        arrivals=options.arrivals,
        peak=options.peak,
        connections=options.connections,
        units=options.units,
        timeout_s=options.timeout,
        seed=options.seed,
    )
