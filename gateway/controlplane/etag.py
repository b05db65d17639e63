"""Etags: a change names the state it was decided on. Pure.

An etag is `"<revision>-<first 8 hex digits of the SHA-256 of the release's JSON>"`, quotes included (RFC 9110 §8.8.3).
The digest tells releases apart that have the same revision but another history: a store restored from a backup.
"""

import hashlib

import msgspec

from gateway.errors import InvalidRequest, Stale
from gateway.routing.snapshot import Release


def etag(release: Release) -> str:
    """The etag of this state of the release."""
    digest = hashlib.sha256(msgspec.json.encode(release, order="sorted")).hexdigest()
    return f'"{release.revision}-{digest[:8]}"'


def check(given: str | None, release: Release) -> None:
    """Raises InvalidRequest (no etag) or Stale (another state). Quotes may be left out: shells eat them."""
    if not given:
        raise InvalidRequest(f"a change of {release.model} needs the etag of the release it was decided on")
    current = etag(release)
    if given.strip('"') != current.strip('"'):
        raise Stale(f"the release of {release.model} is at {current}, not {given}: read it again and decide anew")
