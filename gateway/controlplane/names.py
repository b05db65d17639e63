"""Resource names of the admin API: models/{model}, models/{model}/release, models/{model}/versions/{version},
gateways/{gateway}.
"""

import re

from gateway.errors import InvalidRequest

_PARENT = re.compile(r"models/([^/]+)")
_GATEWAY = re.compile(r"gateways/([^/]+)")
_RELEASE = re.compile(r"models/([^/]+)/release")


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
