"""The models directory as it lies on disk: `<model>/<version>/model.onnx`, read without opening a file.

Whatever does not belong there becomes a problem: one line that names it and the remedy. It never hides anything else.
"""

import os
import re
from collections.abc import Container, Iterable, Iterator
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
FOLDERS_PER_LOOK: Final = 256
"""Of models and versions in which nothing seems to have changed: what a look costs has a bound."""
WARM_LOOKS: Final = 60
"""A model in which something has changed is looked at so many times more: where one file changes, others follow."""

Key = tuple[str, int]
"""(model, version)"""
Files = tuple[tuple[str, int, int], ...]
"""(path inside the version's folder, bytes, mtime in nanoseconds), sorted"""


class Found(msgspec.Struct, frozen=True):
    """What one look found in the folder of one model."""

    versions: dict[int, Files]
    problems: tuple[str, ...]


class Look(msgspec.Struct, frozen=True):
    """One look at the models directory."""

    names: frozenset[str]
    """All models there are."""
    models: dict[str, Found]
    """Those that were looked at."""
    problems: tuple[str, ...]
    """Of the directory itself."""


def problems_of(model: str | None, problems: Iterable[str]) -> list[str]:
    """Those of one model, of the directory as a whole and of the store; None: all. No model has a space in its name."""
    about = ("models directory ", "store ", "the store ", f"{model}:", f"{model}/")
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


class Walk:
    """Looks at a models directory again and again, at what may have changed.

    The first look sees everything. A later one sees what is new, what changed of late (by the time of the model's
    folder, or by what an earlier look found), and, in turn, FOLDERS_PER_LOOK of the others: a change that shows in no
    folder's time, such as a file that is overwritten, is found once its turn comes. Small directories are seen whole
    every time.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._warm: dict[str, int] = {}
        """Looks for which a model is still looked at every time."""
        self._known: dict[str, Found] = {}
        self._turns: dict[str, None] = {}
        """Models by when their turn comes."""

    def look(self, restless: Container[str] = ()) -> Look:
        """Names, sizes and times; of the `restless` models in any case. Blocks: call it in a thread.

        Raises OSError when the directory itself cannot be read.
        """
        folders, problems = _model_folders(self._root)
        first = not self._known
        self._forget_all_but(folders)
        stirred = {name for name, path in folders.items() if self._stirs(name, path)}
        stirred.update(name for name in folders if name in restless)
        models = {name: _look_at_model(folders[name]) for name in [*sorted(stirred), *self._due(stirred)]}
        for name, found in models.items():
            if found != self._known.get(name) and not first:
                self._warm[name] = WARM_LOOKS
        self._known |= models
        return Look(frozenset(folders), models, problems)

    def _forget_all_but(self, folders: Container[str]) -> None:
        for name in [name for name in self._known if name not in folders]:
            for kept in (self._known, self._stamps, self._warm, self._turns):
                kept.pop(name, None)

    def _stirs(self, name: str, path: Path) -> bool:
        """Whether something may have changed in a model's folder of late."""
        self._turns.setdefault(name)
        stamp = _stamp(path)
        if self._stamps.get(name) != stamp:
            self._stamps[name] = stamp
            return True
        left = self._warm.pop(name, 0)
        if left > 1:
            self._warm[name] = left - 1
        return left > 0

    def _due(self, stirred: Container[str]) -> list[str]:
        """Those whose turn it is; who is looked at anyway passes."""
        due, folders = list[str](), 0
        for name in self._turns:
            if name not in stirred:
                folders += 1 + len(self._known[name].versions)
                due.append(name)
            if folders >= FOLDERS_PER_LOOK:
                break
        for name in due:
            self._turns[name] = self._turns.pop(name)
        return due


def _model_folders(root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The models' folders by name, and what is wrong with the others."""
    folders: dict[str, Path] = {}
    problems: list[str] = []
    for entry in _entries(root):
        if not entry.is_dir():
            problems.append(f"{entry.name}: is not a model folder; move it to <model>/<version>/ or remove it")
        elif not MODEL_NAME.fullmatch(entry.name):
            problems.append(
                f"{entry.name!r}: not usable as a model name; rename the folder to letters, digits, '.', '_', '-'"
            )
        else:
            folders[entry.name] = Path(entry.path)
    return folders, tuple(problems)


def _stamp(folder: Path) -> tuple[int, ...]:
    """Differs when an entry of the folder has come or gone."""
    try:
        status = folder.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _look_at_model(model: Path) -> Found:
    name = model.name
    versions: dict[int, Files] = {}
    problems: list[str] = []
    try:
        entries = _entries(model)
        for entry in entries:
            if not entry.is_dir():
                problems.append(
                    f"{name}/{entry.name}: does not belong here; put it into {name}/<version>/ or remove it"
                )
            elif not VERSION.fullmatch(entry.name):
                problems.append(
                    f"{name}/{entry.name}: a version is an integer from 1; rename the folder, for example to 1"
                )
            else:
                versions[int(entry.name)] = tuple(sorted(_files(Path(entry.path), "")))
        if not entries:
            problems.append(f"{name}: has no versions; put the model into {name}/1/{MODEL_FILE} or remove the folder")
    except OSError as error:
        problems.append(f"{name}: cannot be read: {error.strerror}; make it readable")
    return Found(versions, tuple(problems))


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
