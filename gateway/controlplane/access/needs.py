"""What each RPC of the admin API asks of its caller: a role, and for which models. Pure."""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from gateway.controlplane.access.roles import Role

ADMIN: Final = "/cutover.admin.v1.Admin/"
OPERATIONS: Final = "/google.longrunning.Operations/"
_MODEL: Final = re.compile(r"models/([^/]+)(?:/.*)?", re.DOTALL)


class About(Enum):
    """Which models a request is about."""

    NAME = "name"
    """That of the resource `name`."""
    RELEASE = "release"
    """That of `release.name`."""
    OPERATION = "operation"
    """That which the operation `name` is about."""
    LIST = "list"
    """Those that its caller may see, of `parent` or `name`; empty: of all models."""
    ALL = "all"
    """What belongs to no model."""
    OWN = "own"
    """Whatever its caller has a role for; the RPC looks at the rest itself."""


class Need(msgspec.Struct, frozen=True):
    """The least role for an RPC, and which models it is about."""

    role: Role
    about: About


_LOOK: Final = Need(Role.VIEWER, About.NAME)
_LIST: Final = Need(Role.VIEWER, About.LIST)
_CHANGE: Final = Need(Role.OPERATOR, About.NAME)

NEEDS: Final[Mapping[str, Need]] = {
    ADMIN + rpc: need
    for need, rpcs in {
        _LOOK: ("GetRelease", "ListOverrides", "ListRevisions", "GetVersion"),
        _LIST: ("ListReleases", "WatchReleases", "ListVersions", "ListStatistics", "ListAuditEvents"),
        _CHANGE: (
            "LoadVersion",
            "WarmVersion",
            "RegisterModel",
            "SetShadow",
            "RemoveShadow",
            "SetCanary",
            "RemoveCanary",
            "SetOverrides",
            "PrepareStandby",
            "Flip",
            "PromoteCanary",
            "Rollback",
            "AbortRelease",
            "PauseRelease",
            "ResumeRelease",
            "SetHoldout",
            "RemoveHoldout",
        ),
        Need(Role.OPERATOR, About.RELEASE): ("UpdateRelease",),
        Need(Role.VIEWER, About.OWN): ("ListGateways",),
        Need(Role.OPERATOR, About.ALL): ("FenceGateway",),
        Need(Role.OWNER, About.ALL): ("Backup",),
        Need(Role.OWNER, About.OWN): ("CreateToken", "ListTokens", "RevokeToken"),
    }.items()
    for rpc in rpcs
} | {
    OPERATIONS + "ListOperations": _LIST,
    OPERATIONS + "GetOperation": Need(Role.VIEWER, About.OPERATION),
    OPERATIONS + "WaitOperation": Need(Role.VIEWER, About.OPERATION),
    OPERATIONS + "CancelOperation": Need(Role.OPERATOR, About.OPERATION),
    OPERATIONS + "DeleteOperation": Need(Role.OPERATOR, About.OPERATION),
}
"""By method. An RPC that is not here is refused to everybody."""


def model_of(need: Need, request: Any, target_of: Callable[[str], str]) -> str | None:
    """The model that a request is about; None: no single one. `target_of` an operation: a resource name, or "".

    A name that is none is about all models: whoever may not see those is told nothing else.
    """
    match need.about:
        case About.NAME:
            name = request.name
        case About.RELEASE:
            name = request.release.name
        case About.OPERATION:
            name = target_of(request.name)
        case About.LIST:
            name = getattr(request, "parent", "") or getattr(request, "name", "")
        case _:
            return None
    return model_in(name)


def model_in(name: str) -> str | None:
    """The model of a resource; None: it belongs to none."""
    found = _MODEL.fullmatch(name)
    return found[1] if found else None
