"""A release as plain values, the same for every version of the gateway that could have written it. Pure.

Hashes are made of it, so a field that came later is left out while it says nothing: a release of before has the same
etag and audit hash as ever. The sequence is left out always: it is known only once the release is stored.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.routing.snapshot import Release

_RELEASE_LATER: Final[Mapping[str, object]] = {"paused": False}
_POLICY_LATER: Final[Mapping[str, object]] = {
    "overrides": {},
    "holdout": None,
    "rules": (),
    "assignment": None,
    "timeout_ms": 0,
}
"""What came after the first release of Cutover, and what it says when it says nothing."""


def canonical(release: Release) -> dict[str, Any]:
    """For JSON. A fresh value at the top and of each policy: callers may put other keys there."""
    plain: dict[str, Any] = msgspec.to_builtins(release)
    del plain["sequence"]
    _drop(plain, _RELEASE_LATER)
    for policy in filter(None, (plain["policy"], plain["rollback"])):
        _drop(policy, _POLICY_LATER)
    return plain


def _drop(plain: dict[str, Any], silent: Mapping[str, object]) -> None:
    for name, nothing in silent.items():
        if plain[name] == nothing:
            del plain[name]
