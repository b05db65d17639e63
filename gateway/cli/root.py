"""The command line as a whole: all commands, and the one place where errors become a line and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import (
    auditing,
    backing,
    changing,
    declaring,
    gateways,
    history,
    holding,
    loading,
    loadtest,
    overriding,
    reading,
    registering,
    serving,
    tokens,
)
from gateway.cli.failure import Exit, Failure
from gateway.errors import StartupError

DEBUG = "CUTOVER_DEBUG"
# typer exports only the leaves of the command line library's errors.
_CommandLineError = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="cutover",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    serving,
    reading,
    history,
    registering,
    changing,
    declaring,
    holding,
    overriding,
    loading,
    auditing,
    tokens,
    gateways,
    backing,
    loadtest,
):
    app.add_typer(room.app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cutover {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Examples:\n\n\b\n"
    "  cutover serve --models models\n"
    "  cutover status --watch\n"
    "  cutover canary set digits 2 --percent 10\n"
    "  cutover standby set digits 2\n"
    "  cutover flip digits --reason 'v2 met its SLO'\n\n"
    "Exit codes: 0 done, 1 refused, 2 wrong usage or cannot start, 3 gateway out of reach, 4 SLO missed, "
    "5 differs (apply --dry-run), 130 interrupted."
)
def cutover(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Inference gateway: shadow, canary and blue/green releases of ONNX models behind one gRPC address."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process) and returns its exit code. Never raises an Exception."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="cutover", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.REFUSED
    except Exception as error:  # noqa: BLE001 - nobody is to see a traceback who did not ask for it
        return _fail(error)
    return int(code or Exit.OK)


def _fail(error: Exception) -> int:
    if isinstance(error, Failure):
        return _complain("cutover", str(error), error.code)
    if isinstance(error, StartupError):
        return _complain("cutover", str(error), Exit.USAGE)
    if isinstance(error, typer.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, _CommandLineError):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cutover"
        said = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
        return _complain(path, f"{said} (see {path} --help)", Exit.USAGE)
    if os.environ.get(DEBUG):
        raise error
    return _complain("cutover", f"unexpected {type(error).__name__}: {error} ({DEBUG}=1 shows where)", Exit.REFUSED)


def _complain(command: str, message: str, code: Exit) -> int:
    """A line per error: configuration may have several at once."""
    for line in message.splitlines():
        typer.echo(f"{command}: {' '.join(line.split())}", err=True)
    return code
