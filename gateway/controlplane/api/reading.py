"""Releases as they are and were: RPCs that read them and their override lists."""

# ruff: noqa: N802  # RPCs are named by the proto
import asyncio
from typing import Final

from gateway.controlplane import names, pages
from gateway.controlplane.messages import other_state_message, overrides_message, release_message
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from gateway.controlplane.store import Store
from gateway.routing.snapshot import Release
from protos import admin_pb2 as pb

OVERRIDES_PAGE: Final = 1_000
MAX_OVERRIDES_PAGE: Final = 10_000
"""Stays below the 4 MiB that clients accept unless told otherwise."""
REVISIONS_PAGE: Final = 20
MAX_REVISIONS_PAGE: Final = 100
REVISIONS_AT_ONCE: Final = 4
"""Each is read whole, with up to 100,000 overrides, of which only their number is told."""

_RELEASES: Final = pages.Listing[Release]("releases", tuple[str], lambda release: (release.model,))


class Reading:
    """Reads releases."""

    def __init__(self, releases: Releases, store: Store) -> None:
        self._releases = releases
        self._store = store
        self._one_reads = asyncio.Lock()

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.Release:
        return release_message(self._releases.get(names.model_of_release(request.name)))

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        size = pages.size_or_all(request.page_size)
        left = _RELEASES.after(request.page_token, self._releases.list())
        page, token = _RELEASES.take(left, size, release_message)
        return pb.ListReleasesResponse(releases=page, next_page_token=token)

    async def ListRevisions(self, request: pb.ListRevisionsRequest, context: Context) -> pb.ListRevisionsResponse:
        model = names.model_of_release(request.name)
        listing = pages.Listing[pb.Release](
            f"revisions of {model}", tuple[pages.Number], lambda release: (release.revision,)
        )
        size = pages.page_size(request.page_size, REVISIONS_PAGE, MAX_REVISIONS_PAGE)
        (before,) = listing.last(request.page_token) or (None,)
        self._releases.get(model)
        kept = await self._revisions(model, size + 1, before)
        page, token = listing.take(kept, size, lambda found: found)
        return pb.ListRevisionsResponse(revisions=page, next_page_token=token)

    async def _revisions(self, model: str, count: int, before: int | None) -> list[pb.Release]:
        """So many of a release, newest first. However many are asked for, and by whomever, few are held at a time."""
        found: list[pb.Release] = []
        while count > 0:
            async with self._one_reads:
                kept = await self._store.revisions(model, min(count, REVISIONS_AT_ONCE), before)
                found += map(other_state_message, kept)
            count = count - len(kept) if len(kept) == REVISIONS_AT_ONCE else 0
            before = found[-1].revision if found else None
        return found

    async def ListOverrides(self, request: pb.ListOverridesRequest, context: Context) -> pb.ListOverridesResponse:
        release = self._releases.get(names.model_of_release(request.name))
        size = pages.page_size(request.page_size, OVERRIDES_PAGE, MAX_OVERRIDES_PAGE)
        return overrides_message(release, request.units, size, request.page_token)
