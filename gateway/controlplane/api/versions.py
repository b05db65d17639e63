"""Versions found in the models directory, and what their releases use them for."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names
from gateway.controlplane.api.known import Known
from gateway.controlplane.messages import version_message
from gateway.controlplane.ports import Fleet
from gateway.controlplane.releases import Releases
from gateway.controlplane.repository import problems_of
from gateway.controlplane.statuses import Context
from protos import admin_pb2 as pb


class Versions:
    """Reads versions."""

    def __init__(self, releases: Releases, fleet: Fleet, known: Known) -> None:
        self._releases = releases
        self._fleet = fleet
        self._known = known

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        model = names.model_of_parent(request.parent)
        self._known.check(model)
        releases = {release.model: release for release in self._releases.list()}
        found = [status for status in self._fleet.statuses() if model in (None, status.model)]
        versions = [version_message(status, releases.get(status.model)) for status in found]
        return pb.ListVersionsResponse(versions=versions, problems=problems_of(model, self._fleet.problems()))
