"""Etags: a change names the state it was decided on. Pure, but for what it remembers.

An etag is `"<revision>-<first 8 hex digits of the SHA-256 of the release's JSON>"`, quotes included (RFC 9110 §8.8.3).
The digest tells releases apart that have the same revision but another history: a store restored from a backup. What
the JSON holds: `canonical`.
"""

import hashlib
from typing import Final

import msgspec

from gateway.controlplane.canonical import canonical
from gateway.errors import InvalidRequest, Stale
from gateway.routing.snapshot import Release

_newest: Final[dict[str, tuple[Release, str]]] = {}
"""By model the release last asked for and its digest: with long override lists that takes tens of milliseconds."""


def etag(release: Release) -> str:
    """The etag of this state of the release."""
    known = _newest.get(release.model)
    if known is None or known[0] is not release:
        known = _newest[release.model] = release, _digest(release)
    return f'"{release.revision}-{known[1]}"'


def _digest(release: Release) -> str:
    return hashlib.sha256(msgspec.json.encode(canonical(release), order="sorted")).hexdigest()[:8]


def check(given: str | None, release: Release) -> None:
    """Raises InvalidRequest (no etag) or Stale (another state). Quotes may be left out: shells eat them."""
    if not given:
        raise InvalidRequest(f"a change of {release.model} needs the etag of the release it was decided on", "etag")
    current = etag(release)
    if given.strip('"') != current.strip('"'):
        raise Stale(f"the release of {release.model} is at {current}, not {given}: read it again and decide anew")
