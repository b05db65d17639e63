"""Reads configuration: command line before environment (`CUTOVER_<SECTION>_<KEY>`) before file before default."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gateway.config.schema import Config
from gateway.controlplane.explain import explain, unknown
from gateway.controlplane.written import Model
from gateway.errors import StartupError

PREFIX: Final = "CUTOVER_"
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    name: type(field.default) for name, field in Config.model_fields.items() if name != "models"
}
KUBERNETES: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_.*)")
"""What Kubernetes puts into the environment for a Service called cutover-...; never a setting of ours."""
PATHS: Final = {
    "server": ("models", "state", "grpc_socket"),
    "tls": ("certificate", "key", "client_ca"),
    "admin": ("socket", "certificate", "key", "client_ca"),
    "store": ("password_file",),
    "triton": ("trace_file",),
}
OPTIONS: Final = {
    "log.format": "--log-format",
    "log.level": "--log-level",
    "tls.certificate": "--tls-cert",
    "tls.key": "--tls-key",
    "tls.client_ca": "--tls-client-ca",
}
"""Options of the command line that are not named after the last part of their setting."""


class Sources:
    """Settings as they are read, and who said each: an error then names the place to correct."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._said_by: dict[tuple[str, str], str] = {}
        self._file = ""

    def add_file(self, path: Path) -> None:
        """Raises StartupError when the file is missing or no TOML. Relative paths in it are relative to its folder."""
        self._file = f"{path}: "
        try:
            self.values = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise StartupError(f"config file {path} does not exist; give an existing one with --config") from None
        except OSError as error:
            raise StartupError(f"config file {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StartupError(f"config file {path} is not valid TOML: {error}") from None
        for section, keys in PATHS.items():
            table = self.values.get(section)
            if isinstance(table, dict):
                for key in keys:
                    if isinstance(table.get(key), str):
                        table[key] = str(path.parent / table[key])

    def set(self, section: str, key: str, value: object, said_by: str) -> None:
        """A setting from somewhere else than the file."""
        table = self.values.setdefault(section, {})
        if isinstance(table, dict):  # else: the file is wrong there, and that will be said
            table[key] = value
            self._said_by[section, key] = said_by

    def place(self, location: tuple[int | str, ...]) -> str:
        """Where to correct the setting at `location`, with a colon; nothing for all of them together."""
        said_by = self._said_by.get((str(location[0]), str(location[1]))) if len(location) > 1 else None
        if not location:
            return self._file
        return (said_by or self._file + ".".join(map(str, location))) + ": "


def load(file: Path | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration of this start.

    `overrides` come from the command line, by setting: `{"server.grpc_port": 0, "log.format": "json"}`; None: not
    given. Raises StartupError with one line per mistake.
    """
    sources = Sources()
    if file is not None:
        sources.add_file(file)
    mistakes = [*_add_environment(sources, os.environ)]
    for name, value in (overrides or {}).items():
        if value is not None:
            section, _, key = name.partition(".")
            sources.set(section, key, value, OPTIONS.get(name, "--" + key.replace("_", "-")))
    try:
        config = Config.model_validate(sources.values)
    except ValidationError as error:
        for problem in error.errors():
            said = explain(problem, _class_at(problem["loc"][:-1]))
            mistakes += [sources.place(problem["loc"]) + line for line in said.splitlines()]
        raise StartupError("\n".join(mistakes)) from None
    if mistakes:
        raise StartupError("\n".join(mistakes))
    return config


def _add_environment(sources: Sources, environment: Mapping[str, str]) -> Iterator[str]:
    """Takes settings from the environment; yields a line for each variable that looks like one but is none."""
    for name, text in sorted(environment.items()):
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        if not name.startswith(PREFIX) or section not in SECTIONS or not key:  # CUTOVER_ADMIN is the command line's
            continue
        field = SECTIONS[section].model_fields.get(key)
        if field is None:
            if not KUBERNETES.fullmatch(name):
                yield f"{name}: {unknown(key, SECTIONS[section])}"
            continue
        sources.set(section, key, _typed(text, field.annotation), name)


def _typed(text: str, kind: object) -> object:
    """What a file would have written without quotes, or in brackets: a list has commas here."""
    if get_origin(kind) is list:
        (entry,) = get_args(kind)
        entry = get_args(entry)[0] if get_origin(entry) is Annotated else entry
        return [_typed(part.strip(), entry) for part in text.split(",") if part.strip()]
    if kind is int and re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return text == "true" if kind is bool and text in ("true", "false") else text


def _class_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    if not location:
        return Config
    return SECTIONS.get(str(location[0]), Model)
