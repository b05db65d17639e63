"""A virtual environment for each peer, made on first use under $CUTOVER_PEERS or the cache folder."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.bench.errors import BenchError

LIMIT_S: Final = 1800


def folder() -> Path:
    """Where the environments are kept."""
    chosen = os.environ.get("CUTOVER_PEERS")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cutover-peers"


def environment(name: str, packages: Sequence[str], root: Path) -> Path:
    """The environment with these packages; pip's progress goes to stderr. Raises BenchError when that fails.

    A note in the folder says what was installed, and for which interpreter: one that was left half done is made again.
    """
    made, note = root / name, root / f"{name}.installed"
    if note.is_file() and note.read_text() == contents(packages) and (made / "bin" / "python").exists():
        return made
    sys.stderr.write(f"installing {', '.join(packages)} into {made}; this takes minutes, once\n")
    root.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(made)], name)
    _run([str(made / "bin" / "pip"), "install", "--disable-pip-version-check", *packages], name)
    note.write_text(contents(packages))
    return made


def contents(packages: Sequence[str]) -> str:
    """What the note of an environment says: its packages, and the interpreter.

    Another one's environment would run the peers on another Python than Cutover.
    """
    interpreter = f"{sys.base_prefix} {sys.version}".replace("\n", " ")
    return "\n".join((*packages, f"for {interpreter}\n"))


def version(made: Path, package: str) -> str:
    """The installed version of a package, or "" when it does not say."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(made / "bin" / "python"), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(command, stdout=sys.stderr, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{name} could not be installed: {error}") from error
    if done.returncode:
        raise BenchError(f"{name} could not be installed: {' '.join(command[:3])} … ended with {done.returncode}")
