"""A configuration as a file that says the same: every setting, in the notation `load` reads. Pure."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.schema import Config
from gateway.controlplane import toml
from gateway.controlplane.units import duration_s, size_bytes, written_duration, written_size


def write(config: Config) -> str:
    """TOML, one setting per line. Paths are absolute: in a file, relative ones are relative to where it lies."""
    return "".join(f"{line}\n" for line in _lines(config))


def _lines(config: Config) -> Iterator[str]:
    for name in Config.model_fields:
        section = getattr(config, name)
        if name != "models":
            yield from _section(name, section)
    for model, section in config.models.items():
        yield from _section(f"models.{toml.key(model)}", section)


def _section(name: str, section: BaseModel) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        readers = _readers(field)
        if value is None:
            yield f"# {name}.{key} is not set"
        elif duration_s in readers:
            yield f"{name}.{key} = {toml.text(written_duration(value))}"
        elif size_bytes in readers:
            yield f"{name}.{key} = {toml.text(written_size(value))}"
        else:
            yield f"{name}.{key} = {_value(value)}"


def _readers(field: FieldInfo) -> list[object]:
    """What reads the setting from its notation; one that may be unset keeps it with its type."""
    optional = [one for kind in get_args(field.annotation) for one in getattr(kind, "__metadata__", ())]
    return [getattr(one, "func", None) for one in (*field.metadata, *optional)]


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{toml.key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Path):
        return toml.text(str(value.absolute()))
    return toml.text(value) if isinstance(value, str) else json.dumps(value)
