"""`cutover loadtest`: aims a load test at the arm of a version and hands on its verdict.

The load test is a process of its own (`python -m loadtests`): Locust patches the process it lives in, and nothing
else is to slow its load down.
"""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import Gateway, Model, Output, asks, command
from gateway.cli.failure import Exit, Failure, parse_address

if TYPE_CHECKING:
    from gateway.cli.admin import Admin

app = typer.Typer()

STOP_GRACE_S = 10.0
SUITES = ("steady", "ramp", "spike")

Suite = Annotated[str, typer.Option("--suite", metavar="|".join(SUITES), help="The shape of the load.")]
VersionOption = Annotated[
    int, typer.Option("--version", metavar="VERSION", min=1, help="The version to test.", show_default=False)
]
Slo = Annotated[
    Path | None,
    typer.Option(
        "--slo", metavar="FILE", exists=True, dir_okay=False, help="TOML of what must hold.", show_default=False
    ),
]
Target = Annotated[
    str, typer.Option("--target", metavar="HOST:PORT", envvar="CUTOVER_TARGET", help="Data address, or unix:PATH.")
]
Rows = Annotated[
    Path | None,
    typer.Option("--rows", metavar="FILE", exists=True, dir_okay=False, help="Rows to send.", show_default=False),
]
Duration = Annotated[
    str | None, typer.Option("--duration", metavar="TIME", help="How long, such as 30s.", show_default=False)
]
Rate = Annotated[str | None, typer.Option("--rate", metavar="RATE", help="Requests per second.", show_default=False)]
Users = Annotated[
    int | None, typer.Option("--users", metavar="N", min=1, help="Requests in flight at most.", show_default=False)
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", file_okay=False, help="Where reports go.", show_default=False)
]
Extra = Annotated[
    list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Passed on to the load test.", show_default=False)
]


@command(
    app,
    "loadtest",
    "cutover loadtest digits --version 2 --suite steady --slo slo.toml",
    "cutover loadtest digits --version 2 --suite ramp --report out -o json",
    "cutover loadtest digits --version 2 --suite spike -- --peak 5 --seed 7",
)
@asks
def loadtest(  # noqa: PLR0913 - one parameter per option
    gateway: Gateway,
    model: Model,
    version: VersionOption,
    suite: Suite = "steady",
    slo: Slo = None,
    target: Target = "127.0.0.1:8001",
    rows: Rows = None,
    duration: Duration = None,
    rate: Rate = None,
    users: Users = None,
    report: Report = None,
    extra: Extra = None,
) -> None:
    """Puts load on one version and judges it by an SLO file.

    Exit code 0: the SLO is met, 4: it is missed. Needs the `load` extra. The version must answer under some arm:
    stable, canary or standby.
    """
    if suite not in SUITES:
        raise Failure(Exit.USAGE, f"--suite {suite} is not one of {', '.join(SUITES)}")
    if not target.startswith("unix:"):
        parse_address(target, "--target")
    _require_locust()
    with gateway.connect() as admin:
        arm = find_arm(admin, model, version)
    options = {
        "--version": version,
        "--arm": arm,
        "--suite": suite,
        "--target": target,
        "--slo": slo,
        "--rows": rows,
        "--duration": duration,
        "--rate": rate,
        "--users": users,
        "--report": report,
        "-o": "json" if gateway.output is Output.JSON else None,
    }
    said = [part for flag, value in options.items() if value is not None for part in (flag, str(value))]
    raise typer.Exit(run_load([sys.executable, "-m", "loadtests", model, *said, *(extra or ())]))


def find_arm(admin: "Admin", model: str, version: int) -> str:
    """The arm under which a version answers. Raises Failure when it answers under none."""
    from gateway.cli import words
    from gateway.routing.snapshot import HOLDOUT, STABLE, STANDBY

    policy = words.to_policy(admin.release(model).policy)
    if policy.stable == version:
        return STABLE
    for canary in policy.canaries:
        if canary.version == version:
            return canary.arm
    if policy.standby == version:
        return STANDBY
    if policy.holdout is not None and policy.holdout.version == version:
        return HOLDOUT
    raise Failure(
        Exit.USAGE,
        f"{model} version {version} answers nobody ({words.describe(policy)}): "
        f"make it standby (cutover standby set {model} {version}) or canary first",
    )


def run_load(arguments: list[str]) -> int:
    """Runs the load test to its end and returns its exit code; ends it when this process is told to end."""
    process = subprocess.Popen(arguments)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # The terminal interrupted the load test, too: it is writing what it has.
        _end(process)
        return Exit.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)
    if code < 0:
        raise Failure(Exit.REFUSED, f"the load test was ended by {signal.Signals(-code).name}")
    return code


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _require_locust() -> None:
    for module in ("locust", "loadtests"):
        if importlib.util.find_spec(module) is None:
            raise Failure(Exit.USAGE, f"load tests need {module}: pip install 'cutover[load]'")
