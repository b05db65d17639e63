"""One version's files, read: digest and settings."""

import hashlib
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from gateway.controlplane.labels import Labels, read_labels
from gateway.controlplane.repository import MODEL_FILE, SETTINGS_FILE, Files, Key
from gateway.controlplane.settings import WorkerOverrides, read_overrides

CHUNK_BYTES: Final = 1 << 20


class Named(msgspec.Struct, frozen=True):
    """What `model.toml` says beside `WorkerOverrides`, and no other place can say."""

    labels: dict[str, str] = {}
    """By output: the file in the version's folder that names its classes, one a line."""


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


def read_version(root: Path, key: Key, files: Files) -> Version | str:
    """Reads every byte of a version, or says in one line why it is none. Blocks: call it in a thread."""
    model, version = key
    name = f"{model}/{version}"
    sizes = {path: size for path, size, _ in files}
    if MODEL_FILE not in sizes:
        return f"{name}: has no {MODEL_FILE}; put the model there under that name or remove the folder"
    if not sizes[MODEL_FILE]:
        return f"{name}/{MODEL_FILE}: is empty; export the model again"
    folder = root / model / str(version)
    settings, named, labels, error = WorkerOverrides(), Named(), Labels(), ""
    try:
        digest = _digest(folder, files)
        if SETTINGS_FILE in sizes:
            settings, named, error = _settings(folder / SETTINGS_FILE)
            labels, wrong = read_labels(folder, sizes, named.labels)
            error = error or wrong
    except OSError as failure:
        return f"{name}: cannot be read: {failure.strerror}; make its files readable"
    return Version(model, version, folder, digest, settings, error and f"{name}/{SETTINGS_FILE}: {error}", labels)


def _digest(folder: Path, files: Files) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path}\0{size}\0".encode(errors="surrogateescape"))
        with (folder / path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _settings(path: Path) -> tuple[WorkerOverrides, Named, str]:
    """How the version runs, what belongs to the artifact itself, and what is wrong with the file."""
    known = ", ".join((*WorkerOverrides.__struct_fields__, *Named.__struct_fields__))
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        named = msgspec.convert(content, Named)
        return read_overrides({key: value for key, value in content.items() if key != "labels"}), named, ""
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return WorkerOverrides(), Named(), f"not valid TOML: {error}; correct it or remove the file"
    except msgspec.ValidationError as error:
        return WorkerOverrides(), Named(), f"{error}; known settings: {known}"
