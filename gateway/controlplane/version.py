"""One version's files, read: digest and settings."""

import hashlib
import tomllib
from pathlib import Path
from typing import Final

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.controlplane.explain import explain
from gateway.controlplane.labels import Labels, read_labels
from gateway.controlplane.repository import MODEL_FILE, SETTINGS_FILE, Files, Key
from gateway.controlplane.settings import DEFAULTS, FleetSettings, WorkerOverrides
from gateway.controlplane.written import Model, VersionFile

CHUNK_BYTES: Final = 1 << 20


class Version(msgspec.Struct, frozen=True):
    """An artifact as it was found."""

    model: str
    version: int
    folder: Path
    digest: str
    """SHA-256, hex, over each file in order of name: name, NUL, size in decimal, NUL, content."""
    settings: WorkerOverrides = WorkerOverrides()
    error: str = ""
    """Why it cannot be loaded, when its settings already say so."""
    labels: Labels = {}

    @property
    def key(self) -> Key:
        return self.model, self.version

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_FILE


def read_version(root: Path, key: Key, files: Files, fleet: FleetSettings = DEFAULTS) -> Version | str:
    """Reads every byte of a version, or says in one line why it is none. Blocks: call it in a thread.

    `fleet` says what holds where its `model.toml` says nothing.
    """
    model, version = key
    name = f"{model}/{version}"
    sizes = {path: size for path, size, _ in files}
    if MODEL_FILE not in sizes:
        return f"{name}: has no {MODEL_FILE}; put the model there under that name or remove the folder"
    if not sizes[MODEL_FILE]:
        return f"{name}/{MODEL_FILE}: is empty; export the model again"
    folder = root / model / str(version)
    said, labels, error = VersionFile(), Labels(), ""
    try:
        digest = _digest(folder, files)
        if SETTINGS_FILE in sizes:
            said, error = _settings(folder / SETTINGS_FILE, model)
            labels, wrong = read_labels(folder, sizes, said.labels)
            error = error or wrong or fleet.workers_of(model, said.overrides()).mistake()
    except OSError as failure:
        return f"{name}: cannot be read: {failure.strerror}; make its files readable"
    error = error and f"{name}/{SETTINGS_FILE}: {error}"
    return Version(model, version, folder, digest, said.overrides(), error, labels)


def _digest(folder: Path, files: Files) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path}\0{size}\0".encode(errors="surrogateescape"))
        with (folder / path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _settings(path: Path, model: str) -> tuple[VersionFile, str]:
    """What `model.toml` says, and what is wrong with it, in one line."""
    try:
        return VersionFile.model_validate(tomllib.loads(path.read_text("utf-8"))), ""
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return VersionFile(), f"not valid TOML: {error}; correct it or remove the file"
    except ValidationError as error:
        mistakes = [_mistake(problem, model) for problem in error.errors()]
        if len(mistakes) > 1:
            mistakes = [f"({number}) {said}" for number, said in enumerate(mistakes, 1)]
        return VersionFile(), " ".join(" ".join(mistakes).splitlines())


def _mistake(problem: ErrorDetails, model: str) -> str:
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden" and place in Model.model_fields:
        return f"{place}: belongs to the model, not to a version; say it under [models.{model}] of the configuration"
    return f"{place}: {explain(problem, VersionFile)}"
