"""Resource names of the admin API.

models/{model}, models/{model}/release, models/{model}/versions/{version}, operations/{operation}, gateways/{gateway},
tokens/{token}. None has a zero byte, which not every store could look up.
"""

import re
from typing import Final

from gateway.errors import InvalidRequest

LARGEST_VERSION: Final = 10**18 - 1
_PARENT: Final = re.compile(r"models/([^/\0]+)")
_RELEASE: Final = re.compile(r"models/([^/\0]+)/release")
_VERSION: Final = re.compile(r"models/([^/\0]+)/versions/([1-9][0-9]{0,17})")
_OPERATION: Final = re.compile(r"operations/([^/\0]+)")
_GATEWAY: Final = re.compile(r"gateways/([^/\0]+)")
_TOKEN: Final = re.compile(r"tokens/([^/\0]+)")


def release_name(model: str) -> str:
    """The name of a model's release."""
    return f"models/{model}/release"


def version_name(model: str, version: int) -> str:
    """The name of a version."""
    return f"models/{model}/versions/{version}"


def gateway_name(gateway: str) -> str:
    """The name of a gateway."""
    return f"gateways/{gateway}"


def gateway_of(name: str) -> str:
    """The gateway of `gateways/{gateway}`. Raises InvalidRequest."""
    found = _GATEWAY.fullmatch(name)
    if found is None:
        raise InvalidRequest(f"name must be gateways/{{gateway}}, not {name[:200]!r}")
    return found[1]


def operation_name(operation: str) -> str:
    """The name of an operation."""
    return f"operations/{operation}"


def model_of_release(name: str) -> str:
    """The model of `models/{model}/release`. Raises InvalidRequest."""
    return _read(_RELEASE, name, "name", "models/{model}/release")[1]


def version_of(name: str) -> tuple[str, int]:
    """Model and version of `models/{model}/versions/{version}`. Raises InvalidRequest."""
    found = _read(_VERSION, name, "name", "models/{model}/versions/{version}")
    return found[1], int(found[2])


def id_of_operation(name: str) -> str:
    """What comes after `operations/`. Raises InvalidRequest."""
    return _read(_OPERATION, name, "name", "operations/{operation}")[1]


def token_name(token_id: str) -> str:
    """The name of a token."""
    return f"tokens/{token_id}"


def id_of_token(name: str) -> str:
    """The id of `tokens/{token}`. Raises InvalidRequest."""
    return _read(_TOKEN, name, "name", "tokens/{token}")[1]


def model_of_parent(parent: str) -> str | None:
    """The model of `models/{model}`; None for the empty parent: all models. Raises InvalidRequest."""
    return _read(_PARENT, parent, "parent", "models/{model} or empty")[1] if parent else None


def _read(pattern: re.Pattern[str], text: str, field: str, form: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{field} must be {form}, not {text[:200]!r}", field)
    return found
