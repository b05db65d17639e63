"""`python -m loadtests.compare [PEER…] [--quick]`: the comparison as Markdown tables, and what it aims at.

Exit codes: 0 everything asked for was measured, 1 something was not, 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench import aims, h2load
from loadtests.bench.errors import BenchError
from loadtests.bench.machine import machine
from loadtests.compare import rows, venvs
from loadtests.compare.measure import Effort
from loadtests.compare.peers import Site
from loadtests.compare.session import NAMES, Session, say

INTERRUPTED = 130

_EXAMPLES = """examples:
  python -m loadtests.compare
  python -m loadtests.compare triton cutover --quick
  CUTOVER_PEERS=/srv/peers python -m loadtests.compare nginx resnet

The peers are installed by pip on first use, each into an environment of its own under $CUTOVER_PEERS or the cache
folder. resnet: rows as large as ResNet's, by Triton, Cutover and a loop in one process. Needs h2load (Debian:
nghttp2-client) and, for nginx, nginx-light."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m loadtests.compare",
        description="Cutover beside its peers: same model, same load, same machine, one run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("peers", nargs="*", metavar="peer", help=f"{', '.join(NAMES)} (default: all)")
    made.add_argument("--quick", action="store_true", help="does everything work? its numbers mean nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison; returns the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    unknown = [name for name in options.peers if name not in NAMES]
    if unknown:
        made.error(f"no peer {unknown[0]!r}: there are {', '.join(NAMES)}")
    started_s = time.monotonic()
    try:
        h2load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-compare-") as folder:
            session = Session(Site(Path(folder), venvs.folder()), Effort.chosen(quick=options.quick))
            try:
                session.run(options.peers or NAMES)
            finally:
                sys.stdout.write(told(session, quick=options.quick))
    except BenchError as error:
        say(f"compare: {error}")
        return 1
    except KeyboardInterrupt:
        say("compare: interrupted")
        return INTERRUPTED
    say(f"took {time.monotonic() - started_s:.0f} s")
    return 1 if session.results.problems else 0


def told(session: Session, *, quick: bool) -> str:
    """Tables and aims as far as they were found."""
    lines = [machine(), *(["quick: the numbers mean nothing"] if quick else []), ""]
    return "\n".join([*lines, *rows.tables(session.results), *aims.table(rows.aims(session.results))]) + "\n"
