"""Releases as they are: RPCs that read them and their override lists."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names, pages
from gateway.controlplane.messages import overrides_message, release_message
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from protos import admin_pb2 as pb

OVERRIDES_PAGE = 1_000
MAX_OVERRIDES_PAGE = 10_000
"""Stays below the 4 MiB that clients accept unless told otherwise."""


class Reading:
    """Reads releases."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.Release:
        return release_message(self._releases.get(names.model_of_release(request.name)))

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=map(release_message, self._releases.list()))

    async def ListOverrides(self, request: pb.ListOverridesRequest, context: Context) -> pb.ListOverridesResponse:
        release = self._releases.get(names.model_of_release(request.name))
        size = pages.page_size(request.page_size, OVERRIDES_PAGE, MAX_OVERRIDES_PAGE)
        return overrides_message(release, request.units, size, request.page_token)
