"""`python -m loadtests MODEL --version V --suite steady --slo FILE`: aim, run a Locust suite, judge, report.

Exit codes: 0 the objective is met (or none was given), 1 the load generator broke, 2 wrong usage or configuration,
3 the target cannot be reached, 4 the objective is not met or could not be judged, 130 interrupted.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from loadtests import report, schedule, settings, slo
from loadtests.generator import GeneratorBroke, Interrupted, run
from loadtests.measurement import CRASHED, SAYS, UNREACHABLE, USAGE
from loadtests.settings import Settings

INTERRUPTED = 130

_EXAMPLES = """examples:
  python -m loadtests fraud --version 2 --slo loadtests/slo.toml --rows rows.npz
  python -m loadtests fraud --version 2 --arm canary-2 --suite spike --rate 500 --report out/
  python -m loadtests fraud --version 1 --duration 5min -o json"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{SAYS}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="python -m loadtests",
        description="Puts load on one version of a model and judges what it met against a service-level objective.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", help="the model to ask")
    made.add_argument("--version", required=True, help="the version that must answer")
    made.add_argument("--suite", choices=schedule.SUITES, default="steady", help="course of the rate (default: steady)")
    made.add_argument("--slo", help="service-level objective (TOML); without one there is no verdict")
    made.add_argument("--target", default="127.0.0.1:8001", help="host:port or unix:path (default: 127.0.0.1:8001)")
    made.add_argument("--duration", type=settings.duration, default=30.0, help="how long to measure (default: 30s)")
    made.add_argument("--users", type=settings.whole, default=20, help="requests in flight at most (default: 20)")
    made.add_argument("--processes", type=settings.whole, default=1, help="load generators to start (default: 1)")
    for option in settings.SHARED:
        default = "" if option.default is None else f" (default: {_shown(option)})"
        made.add_argument(
            option.flag, type=option.parse, default=option.default, choices=option.choices, help=option.help + default
        )
    made.add_argument("--report", type=Path, help="folder for report.html and report.json")
    made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="what to print (default: text)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a load test; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        wanted = settings.from_options(
            options,
            options.suite,
            target=options.target.rpartition("//")[2],
            version=options.version,
            users=options.users,
            duration_s=options.duration,
        )
        objective = slo.load(Path(options.slo)) if options.slo else None
        if options.report:
            options.report.mkdir(parents=True, exist_ok=True)
    except (settings.SettingsError, slo.SloError) as error:
        return _failed(str(error), USAGE)
    except OSError as error:
        return _failed(f"cannot write the report to {options.report}: {error.strerror}", USAGE)
    try:
        return _check_aim(wanted) or _run(wanted, options, objective)
    except (Interrupted, KeyboardInterrupt):
        return _failed("interrupted: no verdict", INTERRUPTED)


def _check_aim(wanted: Settings) -> int:
    """Asks the target before a load generator is started: what is wrong is said at once."""
    from loadtests import client, tensors

    try:
        channels = client.connect(wanted.target)
        try:
            client.take_aim(channels[0], wanted)
        finally:
            client.close(channels)
    except client.TargetUnreachable as error:
        return _failed(str(error), UNREACHABLE)
    except (client.AimError, tensors.RowsError) as error:
        return _failed(str(error), USAGE)
    return 0


def _run(wanted: Settings, options: argparse.Namespace, objective: slo.Slo | None) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="cutover-load-") as folder:
            measurement = run(wanted, options.processes, Path(folder), Console(stderr=True))
    except GeneratorBroke as error:
        return _failed(str(error), CRASHED)
    if measurement.error:
        return _failed(measurement.error, measurement.exit_code)
    if options.output == "text":
        return report.conclude(measurement, objective, options.slo, options.report)
    built = report.build(measurement, objective, options.slo)
    if options.report:
        report.write(built, options.report)
    sys.stdout.write(report.to_json(built))
    return report.exit_code(built)


def _shown(option: settings.Option) -> object:
    if option.parse is settings.duration:
        return f"{option.default:g}s"
    return f"{option.default:g}" if isinstance(option.default, float) else option.default


def _failed(message: str, code: int) -> int:
    print(f"{SAYS}: {message}", file=sys.stderr)  # noqa: T201 - a command line
    return code
