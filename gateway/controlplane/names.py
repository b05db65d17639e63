"""Resource names of the admin API: models/{model}, models/{model}/release, models/{model}/versions/{version}, and
tokens/{token}.
"""

import re

from gateway.errors import InvalidRequest

_PARENT = re.compile(r"models/([^/]+)")
_RELEASE = re.compile(r"models/([^/]+)/release")
_TOKEN = re.compile(r"tokens/([^/]+)")


def release_name(model: str) -> str:
    """The name of a model's release."""
    return f"models/{model}/release"


def version_name(model: str, version: int) -> str:
    """The name of a version."""
    return f"models/{model}/versions/{version}"


def model_of_release(name: str) -> str:
    """The model of `models/{model}/release`. Raises InvalidRequest."""
    found = _RELEASE.fullmatch(name)
    if found is None:
        raise InvalidRequest(f"name must be models/{{model}}/release, not {name[:200]!r}")
    return found[1]


def model_of_parent(parent: str) -> str | None:
    """The model of `models/{model}`; None for the empty parent: all models. Raises InvalidRequest."""
    if not parent:
        return None
    found = _PARENT.fullmatch(parent)
    if found is None:
        raise InvalidRequest(f"parent must be models/{{model}} or empty, not {parent[:200]!r}")
    return found[1]


def token_name(token_id: str) -> str:
    """The name of a token."""
    return f"tokens/{token_id}"


def id_of_token(name: str) -> str:
    """The id of `tokens/{token}`. Raises InvalidRequest."""
    found = _TOKEN.fullmatch(name)
    if found is None:
        raise InvalidRequest(f"name must be tokens/{{token}}, not {name[:200]!r}")
    return found[1]
