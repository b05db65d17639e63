"""Versions found in the models directory, and what their releases use them for."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Final

from gateway.controlplane import names, pages
from gateway.controlplane.api.known import Known
from gateway.controlplane.messages import version_message
from gateway.controlplane.ports import Fleet, VersionStatus
from gateway.controlplane.releases import Releases
from gateway.controlplane.repository import problems_of
from gateway.controlplane.statuses import Context
from gateway.errors import NotFound
from protos import admin_pb2 as pb

_VERSIONS: Final = pages.Listing[VersionStatus](
    "versions", tuple[str, pages.Number], lambda found: (found.model, found.version)
)


class Versions:
    """Reads versions."""

    def __init__(self, releases: Releases, fleet: Fleet, known: Known) -> None:
        self._releases = releases
        self._fleet = fleet
        self._known = known

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.Version:
        return self.message(*names.version_of(request.name))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        model = names.model_of_parent(request.parent)
        self._known.check(model)
        releases = {release.model: release for release in self._releases.list()}
        found = [status for status in self._fleet.statuses() if model in (None, status.model)]
        left = _VERSIONS.after(request.page_token, found)
        size = pages.size_or_all(request.page_size)
        page, token = _VERSIONS.take(left, size, lambda status: version_message(status, releases.get(status.model)))
        problems = [] if request.page_token else problems_of(model, self._fleet.problems())
        return pb.ListVersionsResponse(versions=page, problems=problems, next_page_token=token)

    def message(self, model: str, version: int) -> pb.Version:
        """One version. Raises NotFound."""
        self._known.check(model)
        found = {status.version: status for status in self._fleet.statuses() if status.model == model}
        if version not in found:
            has = ", ".join(map(str, found)) or "none"
            raise NotFound(f"model {model} has no version {version}; it has {has}")
        release = self._releases.get(model) if model in self._releases.models() else None
        return version_message(found[version], release)
