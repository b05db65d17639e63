"""`python -m loadtests.overload [--quick]`: a table, the aims, and a figure.

Exit codes: 0 measured, whatever it found, 1 could not be measured, 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests import settings
from loadtests.bench import aims, h2load
from loadtests.bench.errors import BenchError
from loadtests.bench.machine import machine
from loadtests.demo.gateway import CommandFailed
from loadtests.overload import figure, steps
from loadtests.overload.flood import Plan, run, say

INTERRUPTED = 130
FIGURE = Path(__file__).parents[1] / "overload.svg"

_EXAMPLES = """examples:
  python -m loadtests.overload
  python -m loadtests.overload --max-queue-wait 20ms --slo 60ms --figure /tmp/overload.svg
  python -m loadtests.overload --quick

A model of known capacity, one request at a time, is offered 0.5 to 10 times that, open loop. Needs h2load (Debian:
nghttp2-client)."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m loadtests.overload",
        description="What the gateway does with up to ten times the load that it can answer.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--max-queue-wait", type=_duration, default="50ms", help="setting of the model (default: 50ms)")
    made.add_argument(
        "--slo", type=settings.duration, default=0.1, help="bound for p99 of accepted requests (default: 100ms)"
    )
    made.add_argument("--step", type=settings.duration, default=6.0, help="time for each load (default: 6s)")
    made.add_argument("--figure", type=Path, help=f"SVG to write (default: {FIGURE.name} beside the load tests)")
    made.add_argument("--quick", action="store_true", help="does everything work? writes a figure only with --figure")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; returns the exit code."""
    options = parser().parse_args(arguments)
    plan = Plan(1.0 if options.quick else options.step, options.max_queue_wait, options.slo)
    target = options.figure or (None if options.quick else FIGURE)
    started_s = time.monotonic()
    try:
        h2load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-overload-") as folder:
            course = run(Path(folder), plan)
        if target:
            target.write_text(figure.draw(course), encoding="utf-8")
    except (BenchError, CommandFailed, OSError) as error:
        say(f"overload: {error}")
        return 1
    except KeyboardInterrupt:
        say("overload: interrupted")
        return INTERRUPTED
    head = [machine(), *(["quick: the numbers mean nothing"] if options.quick else []), ""]
    sys.stdout.write("\n".join([*head, *steps.table(course), *aims.table(steps.aims(course))]) + "\n")
    say(f"took {time.monotonic() - started_s:.0f} s" + (f", drew {target}" if target else ""))
    return 0


def _duration(text: str) -> str:
    """Checked here, read by the gateway."""
    settings.duration(text)
    return text
