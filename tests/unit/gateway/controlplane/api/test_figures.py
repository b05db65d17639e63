"""Through a real channel in tests/integration/test_admin.py."""

import pytest

from gateway.controlplane.api.figures import Figures
from gateway.errors import NotFound
from gateway.observe.statistics import SeriesTotals, Statistics
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World


async def test_statistics_are_listed_for_models_that_are_known(world: World) -> None:
    statistics = Statistics()
    statistics.series["iris", 1, "stable"] = SeriesTotals(codes={0: 5})
    room = Figures(statistics, world.known)
    listed = await room.ListStatistics(pb.ListStatisticsRequest(parent="models/iris"), world.context)
    assert [dict(found.requests) for found in listed.statistics] == [{"OK": 5}]
    with pytest.raises(NotFound):
        await room.ListStatistics(pb.ListStatisticsRequest(parent="models/wine"), world.context)


async def test_statistics_come_in_pages(world: World) -> None:
    statistics = Statistics()
    for arm in ("canary-2", "stable"):
        statistics.series["iris", 1, arm] = SeriesTotals(codes={0: 5})
    room = Figures(statistics, world.known)
    first = await room.ListStatistics(pb.ListStatisticsRequest(page_size=1), world.context)
    request = pb.ListStatisticsRequest(page_size=1, page_token=first.next_page_token)
    second = await room.ListStatistics(request, world.context)
    assert [found.arm for page in (first, second) for found in page.statistics] == ["canary-2", "stable"]
    assert second.next_page_token == ""
