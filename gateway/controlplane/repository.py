"""The models directory as it lies on disk: `<model>/<version>/model.onnx`, read without opening a file.

Whatever does not belong there becomes a problem: one line that names it and the remedy. It never hides anything else.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import StartupError

MODEL_FILE: Final = "model.onnx"
SETTINGS_FILE: Final = "model.toml"
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Fit for gRPC metadata, paths and metric labels."""
VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
"""Fits int64; one spelling per number."""
IGNORED: Final = frozenset({"lost+found"})

Key = tuple[str, int]
"""(model, version)"""
Files = tuple[tuple[str, int, int], ...]
"""(path inside the version's folder, bytes, mtime in nanoseconds), sorted"""


class Listing(msgspec.Struct, frozen=True):
    """One look at the models directory."""

    folders: dict[Key, Files]
    problems: tuple[str, ...]


def problems_of(model: str | None, problems: Iterable[str]) -> list[str]:
    """Those of one model, and those of the directory as a whole; None: all."""
    about = ("models directory ", f"{model}:", f"{model}/")
    return [problem for problem in problems if model is None or problem.startswith(about)]


def require_directory(root: Path) -> None:
    """Raises StartupError unless `root` is a directory that can be read."""
    try:
        with os.scandir(root):
            return
    except FileNotFoundError:
        raise StartupError(f"models directory {root} does not exist; create it or give another with --models") from None
    except NotADirectoryError:
        raise StartupError(
            f"models directory {root} is a file; give the folder that holds <model>/<version>/model.onnx with --models"
        ) from None
    except OSError as error:
        raise StartupError(
            f"models directory {root} cannot be read: {error.strerror}; make it readable or give another with --models"
        ) from None


def look(root: Path) -> Listing:
    """Names, sizes and times of everything. Raises OSError when `root` itself cannot be read."""
    folders: dict[Key, Files] = {}
    problems: list[str] = []
    for model in _entries(root):
        if not model.is_dir():
            problems.append(f"{model.name}: is not a model folder; move it to <model>/<version>/ or remove it")
        elif not MODEL_NAME.fullmatch(model.name):
            problems.append(
                f"{model.name!r}: not usable as a model name; rename the folder to letters, digits, '.', '_', '-'"
            )
        else:
            _look_at_model(Path(model.path), folders, problems)
    return Listing(folders, tuple(problems))


def _look_at_model(model: Path, folders: dict[Key, Files], problems: list[str]) -> None:
    name = model.name
    found = 0
    try:
        for version in _entries(model):
            if not version.is_dir():
                problems.append(
                    f"{name}/{version.name}: does not belong here; put it into {name}/<version>/ or remove it"
                )
            elif not VERSION.fullmatch(version.name):
                problems.append(
                    f"{name}/{version.name}: a version is an integer from 1; rename the folder, for example to 1"
                )
            else:
                folders[name, int(version.name)] = tuple(sorted(_files(Path(version.path), "")))
            found += 1
    except OSError as error:
        problems.append(f"{name}: cannot be read: {error.strerror}; make it readable")
    if not found:
        problems.append(f"{name}: has no versions; put the model into {name}/1/{MODEL_FILE} or remove the folder")


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    for entry in _entries(folder):
        try:
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file():
                status = entry.stat()
                yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns
        except FileNotFoundError:
            continue  # removed while we look


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, without hidden entries (editors, `.git`, Kubernetes' `..data`)."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED),
            key=lambda entry: entry.name,
        )
