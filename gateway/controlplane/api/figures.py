"""What versions and proxies have done, in numbers."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names
from gateway.controlplane.api.known import Known
from gateway.controlplane.messages import proxy_messages, statistics_messages
from gateway.controlplane.statuses import Context
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb


class Figures:
    """Reads statistics."""

    def __init__(self, statistics: Statistics, known: Known) -> None:
        self._statistics = statistics
        self._known = known

    async def ListStatistics(self, request: pb.ListStatisticsRequest, context: Context) -> pb.ListStatisticsResponse:
        model = names.model_of_parent(request.parent)
        self._known.check(model)
        found = statistics_messages(self._statistics, model)
        return pb.ListStatisticsResponse(statistics=found, proxies=proxy_messages(self._statistics))
