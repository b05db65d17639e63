"""What versions and proxies have done, in numbers."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Final

from gateway.controlplane import names, pages
from gateway.controlplane.api.known import Known
from gateway.controlplane.messages import proxy_messages, statistics_messages
from gateway.controlplane.statuses import Context
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb

_STATISTICS: Final = pages.Listing[pb.Statistics](
    "statistics", tuple[str, pages.Number, str], lambda found: (found.model, found.version, found.arm)
)


class Figures:
    """Reads statistics."""

    def __init__(self, statistics: Statistics, known: Known) -> None:
        self._statistics = statistics
        self._known = known

    async def ListStatistics(self, request: pb.ListStatisticsRequest, context: Context) -> pb.ListStatisticsResponse:
        model = names.model_of_parent(request.parent)
        self._known.check(model)
        left = _STATISTICS.after(request.page_token, statistics_messages(self._statistics, model))
        page, token = _STATISTICS.take(left, pages.size_or_all(request.page_size), lambda found: found)
        proxies = [] if request.page_token else proxy_messages(self._statistics)
        return pb.ListStatisticsResponse(statistics=page, proxies=proxies, next_page_token=token)
