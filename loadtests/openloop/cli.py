"""`python -m loadtests.openloop TARGET`: requests that arrive whatever becomes of those before, and what they met.

Exit codes: 0 told what it measured, 2 wrong usage, 3 the target cannot be reached, 130 interrupted.
"""

import argparse
import asyncio
import ipaddress
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

from loadtests import settings, units
from loadtests.openloop import payload
from loadtests.openloop.generator import Generator, Run, Unreachable
from loadtests.openloop.payload import INFER, PayloadError
from loadtests.schedule import ARRIVALS, WARM_UP, Stage

SAYS = "openloop"
USAGE, UNREACHABLE, INTERRUPTED = 2, 3, 130
_DEADLINE_HELP = "sent with each request as grpc-timeout; OK later than that counts as late"

_EXAMPLES = """examples:
  python -m loadtests.openloop 127.0.0.1:8001 --model digits --rate 10000 --duration 10s
  python -m loadtests.openloop 127.0.0.1:8001 --payload request.bin --rate 500/s --deadline 100ms -o json
  python -m loadtests.openloop unix:/run/cutover.sock --model digits --stage 500:3s --stage 5000:5s --stage 500:5s

A request is due when the schedule says so, and its latency runs from then. It is not sent when --max-in-flight others
have no answer yet; then it counts as unsent. Only targets on this machine are accepted."""


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{SAYS}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="python -m loadtests.openloop",
        description="Open-loop load on one unary gRPC method.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("target", type=target, help="host:port or unix:path, on this machine")
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="ask this model, with a row made up from its metadata")
    what.add_argument(
        "--payload", type=Path, help="file with one gRPC-framed message (5 bytes of prefix), as for h2load"
    )
    made.add_argument("--path", default=INFER, help=f"method (default: {INFER})")
    made.add_argument("--rate", type=settings.rate, default=1000.0, help="requests per second (default: 1000)")
    made.add_argument("--duration", type=settings.duration, default=10.0, help="how long to measure (default: 10s)")
    made.add_argument("--warmup", type=settings.duration, default=1.0, help="first part, not measured (default: 1s)")
    made.add_argument(
        "--stage",
        type=stage,
        action="append",
        metavar="RATE:DURATION",
        help="instead of the three: one after the other",
    )
    made.add_argument("--arrivals", choices=ARRIVALS, default="poisson", help="(default: poisson)")
    made.add_argument("--seed", type=int, default=0, help="seed of the arrivals (default: 0)")
    made.add_argument("--connections", type=settings.whole, default=4, help="(default: 4)")
    made.add_argument("--max-in-flight", type=settings.whole, default=4096, help="without an answer (default: 4096)")
    made.add_argument("--deadline", type=settings.duration, default=0.0, help=_DEADLINE_HELP)
    made.add_argument("--grace", type=settings.duration, default=5.0, help="wait for the last answers (default: 5s)")
    made.add_argument(
        "--metadata", type=_pair, action="append", default=[], metavar="KEY=VALUE", help="sent with each request"
    )
    made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="(default: text)")
    return made


def target(text: str) -> str:
    """A host:port or unix:path of this machine: this is no tool to flood others with."""
    if text.startswith("unix:"):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port or unix:path")
    try:
        local = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        local = False
    if not local:
        raise argparse.ArgumentTypeError(f"{host!r} is not this machine: 127.0.0.1, [::1], localhost or unix:path")
    return text


def stage(text: str) -> Stage:
    """`500:3s`"""
    rate, colon, length = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not RATE:DURATION such as 500:3s")
    per_s = settings.rate(rate)
    return Stage(f"{per_s:g}/s", settings.duration(length), per_s, per_s)


def stages(options: argparse.Namespace) -> tuple[Stage, ...]:
    """What was asked for, in order."""
    if options.stage:
        return tuple(options.stage)
    rate = options.rate
    measured = Stage(f"{rate:g}/s", options.duration, rate, rate)
    if not options.warmup:
        return (measured,)
    return Stage(WARM_UP, options.warmup, rate, rate, measured=False), measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the load and prints what it met; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        if any(each.duration_s <= 0 for each in stages(options)):
            raise PayloadError("a stage must be longer than 0s")
        message = payload.read(options.payload) if options.payload else payload.of_model(options.target, options.model)
        run = Run(
            target=options.target, path=options.path, message=message, stages=stages(options),
            arrivals=options.arrivals, seed=options.seed, connections=options.connections,
            max_in_flight=options.max_in_flight, deadline_s=options.deadline, grace_s=options.grace,
            metadata=tuple(options.metadata),
        )  # fmt: skip
        found = _run(Generator(run).run)
    except (PayloadError, ValueError) as error:
        return _failed(str(error), USAGE)
    except (Unreachable, OSError) as error:
        return _failed(str(error), UNREACHABLE)
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    sys.stdout.write(json.dumps(found) + "\n" if options.output == "json" else text(found))
    return 0


def text(found: dict[str, Any]) -> str:
    """A few lines for people."""
    lines = []
    for each in found["stages"]:
        latency = each["latency_us"]
        shown = "  ".join(f"{name} {units.format_us(latency[name])}" for name in ("p50", "p90", "p99", "p99.9", "max"))
        others = {name: count for name, count in each["answers"].items() if name != "OK"}
        others |= {name: each[name] for name in ("late", "unsent", "unanswered") if each[name]}
        rest = "".join(f", {count:,} {name}" for name, count in others.items())
        name = each["name"] if each["measured"] else f"({each['name']})"
        ok = units.format_rate(each["ok_per_s"])
        lines.append(f"{name}: {each['intended']:,} intended, OK {ok}{rest}")
        lines.append(f"  {shown}")
    delay, share = found["measured"]["send_delay_us"], found["generator"]["cpu_share"]
    lines.append(
        f"the load generator: late by p99 {units.format_us(delay['p99'] or 0.0)}, max {units.format_us(delay['max'])}; "
        f"{units.format_percent(share)} of a core"
    )
    lines += [f"! {warning}" for warning in found["warnings"]]
    return "\n".join(lines) + "\n"


def _run(begin: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """On uvloop, or on asyncio's own loop where that is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(begin())
    return uvloop.run(begin())


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key or key != key.lower() or key.startswith((":", "grpc-")):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE with a key in lower case")
    return key, value


def _failed(message: str, code: int) -> int:
    print(f"{SAYS}: {message}", file=sys.stderr)  # noqa: T201 - a command line
    return code
