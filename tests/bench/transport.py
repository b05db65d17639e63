"""`make bench-transport`: our transport beside grpc.aio, both echoing, in one run on one machine; prints one table.

usage: python -m tests.bench.transport [--quick] [--only TEXT] [--baseline REV]
"""

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import load
from tests.bench.comparison import Shape, Side, compare, say, table
from tests.bench.load import BenchError
from tests.bench.machine import machine
from tests.bench.servers import GRPC_AIO, ROOT, TRANSPORT, echo_server, make_certificate
from tests.bench.shapes import Workload, hardening_shapes, transport_shapes

ROUNDS = 7
BASELINE_ROUNDS = 9
QUICK_SCALE = 0.2
SLOW_SHARE = 0.1
"""What grpc.aio is given of our items."""
FILES = 4096


def against_grpc_aio(shapes: Sequence[Shape], folder: Path, rounds: int, scale: float) -> Iterator[str]:
    """The table of both transports."""
    certificate = [str(path) for path in make_certificate(folder)]
    with ExitStack() as stack:
        ours, ours_tls, theirs, theirs_tls = (
            stack.enter_context(echo_server(name, module, *arguments))
            for name, module, arguments in (
                ("ours", TRANSPORT, ["0"]),
                ("ours, TLS", TRANSPORT, ["0", *certificate]),
                ("grpc.aio", GRPC_AIO, []),
                ("grpc.aio, TLS", GRPC_AIO, certificate),
            )
        )
        left = Side("ours", ours, ours_tls, 1.0, TRANSPORT)
        right = Side("grpc.aio", theirs, theirs_tls, SLOW_SHARE, GRPC_AIO)
        yield from table(compare(shapes, left, right, rounds, scale), left.name, right.name)


def against_revision(shapes: Sequence[Shape], revision: str, rounds: int, scale: float) -> Iterator[str]:
    """The table of the transport as it is in this checkout, and as it was."""
    with checked_out(revision) as (name, root), ExitStack() as stack:
        now = stack.enter_context(echo_server("now", TRANSPORT, "0"))
        then = stack.enter_context(echo_server(name, TRANSPORT, "0", root=root))
        left, right = (Side(echo.name, echo, None, 1.0, TRANSPORT) for echo in (now, then))
        yield from table(compare(shapes, left, right, rounds, scale), left.name, right.name)


@contextmanager
def checked_out(revision: str) -> Iterator[tuple[str, Path]]:
    """Short hash of a revision and its files, in a worktree until the end of the block. Raises BenchError."""
    name = _git(
        "rev-parse", "--short", "--verify", "--quiet", f"{revision}^{{commit}}", wrong=f"no revision {revision}"
    )
    with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
        root = Path(folder) / name
        _git("worktree", "add", "--quiet", "--detach", str(root), name)
        try:
            yield name, root
        finally:
            _git("worktree", "remove", "--force", str(root))


def _git(*arguments: str, wrong: str = "") -> str:
    """What git prints. Raises BenchError with git's words, or with `wrong`."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(wrong or f"git {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout.strip()


def _only(shapes: Sequence[Shape], text: str) -> list[Shape]:
    """Those whose name or client contains the text. Raises BenchError when there is none."""
    found = [shape for shape in shapes if text in f"{shape.name}, {shape.client}"]
    if not found:
        names = "; ".join(f"{shape.name}, {shape.client}" for shape in shapes)
        raise BenchError(f"no shape's name contains {text!r}; there are: {names}")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transport", description=__doc__.partition(";")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute: does everything work?")
    parser.add_argument("--only", default="", metavar="TEXT", help="only shapes whose name contains the text")
    parser.add_argument("--baseline", metavar="REV", help="compare with our own transport at a git revision instead")
    return parser.parse_args()


def _lines(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    rounds, scale = (1, QUICK_SCALE) if arguments.quick else (ROUNDS, 1.0)
    work = Workload(folder, scale)
    yield machine()
    yield ""
    if arguments.baseline is None:
        yield from against_grpc_aio(_only(transport_shapes(work), arguments.only), folder, rounds, scale)
    else:
        rounds = rounds if arguments.quick else BASELINE_ROUNDS
        shapes = _only(hardening_shapes(work), arguments.only)
        yield from against_revision(shapes, arguments.baseline, rounds, scale)


def _allow_files() -> None:
    """As many open files as the shapes need, for this process and the servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> int:
    """Runs everything; exit code 1 with one line when something is not as it should be, 130 after Ctrl-C."""
    arguments = _arguments()
    started = time.monotonic()
    # Both end by an exception, so that every server that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard)
        )
    try:
        load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
            for line in _lines(arguments, Path(folder)):  # one by one: what was measured stays, whatever comes next
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted")
        return 130
    say(f"took {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
