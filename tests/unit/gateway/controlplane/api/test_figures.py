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
