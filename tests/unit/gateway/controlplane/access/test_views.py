"""What is left of answers for somebody who may see one model."""

from typing import Any

import pytest
from google.longrunning import operations_pb2

from gateway.controlplane.access.roles import ALL, Role, Roles
from gateway.controlplane.access.views import trim
from protos import admin_pb2 as pb

IRIS = Roles({"iris": Role.OPERATOR})
BOTH = ("iris", "wine")


def operation(model: str) -> operations_pb2.Operation:
    made = operations_pb2.Operation(name=f"operations/{model}")
    made.metadata.Pack(pb.OperationMetadata(target=f"models/{model}/versions/1"))
    return made


def answers() -> list[tuple[Any, Any]]:
    """(what is answered, what is left of it)"""
    return [
        (
            pb.ListReleasesResponse(releases=[pb.Release(model=model) for model in BOTH]),
            pb.ListReleasesResponse(releases=[pb.Release(model="iris")]),
        ),
        (
            pb.ListVersionsResponse(
                versions=[pb.Version(model=model) for model in BOTH],
                problems=["iris/x: odd", "wine: no versions", "models directory is slow"],
            ),
            pb.ListVersionsResponse(
                versions=[pb.Version(model="iris")], problems=["iris/x: odd", "models directory is slow"]
            ),
        ),
        (
            pb.ListStatisticsResponse(statistics=[pb.Statistics(model=model) for model in BOTH], proxies=[pb.Proxy()]),
            pb.ListStatisticsResponse(statistics=[pb.Statistics(model="iris")], proxies=[pb.Proxy()]),
        ),
        (
            pb.ListAuditEventsResponse(
                events=[pb.AuditEvent(model=model) for model in (*BOTH, "")], next_page_token="more"
            ),
            pb.ListAuditEventsResponse(events=[pb.AuditEvent(model="iris")], next_page_token="more", hidden=2),
        ),
        (
            operations_pb2.ListOperationsResponse(operations=[operation(model) for model in BOTH]),
            operations_pb2.ListOperationsResponse(operations=[operation("iris")]),
        ),
        (pb.Release(model="iris"), pb.Release(model="iris")),
        (pb.Release(model="wine"), None),
        (pb.ListTokensResponse(), pb.ListTokensResponse()),
    ]


@pytest.mark.parametrize(("answer", "left"), answers())
def test_only_what_may_be_seen_is_left(answer: Any, left: Any) -> None:
    assert trim(answer, IRIS) == left


@pytest.mark.parametrize(("answer", "_"), answers())
def test_who_may_see_all_sees_all(answer: Any, _: Any) -> None:
    before = type(answer)()
    before.CopyFrom(answer)
    assert trim(answer, Roles({ALL: Role.VIEWER})) == before
