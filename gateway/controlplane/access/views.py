"""Answers of the admin API as somebody may see them who may not see all models. Pure."""

from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2

from gateway.controlplane.access.needs import model_in
from gateway.controlplane.access.roles import Role, Roles
from gateway.controlplane.repository import problems_of
from protos import admin_pb2 as pb


def trim(answer: Any, roles: Roles) -> Any:
    """The answer without what is about models that the roles may not see; None: nothing is left of it.

    Pages become shorter, and their tokens stay: there may be more on the next one.
    """
    if roles.may(Role.VIEWER, None):
        return answer

    def sees(model: str) -> bool:
        return bool(model) and roles.may(Role.VIEWER, model)

    match answer:
        case pb.Release():
            return answer if sees(answer.model) else None
        case pb.ListReleasesResponse():
            _keep(answer.releases, sees)
        case pb.ListVersionsResponse():
            _keep(answer.versions, sees)
            known = {problem for model in roles.by_model for problem in problems_of(model, answer.problems)}
            answer.problems[:] = [problem for problem in answer.problems if problem in known]
        case pb.ListStatisticsResponse():
            _keep(answer.statistics, sees)
        case operations_pb2.ListOperationsResponse():
            found = [one for one in answer.operations if sees(_target(one))]
            del answer.operations[:]
            answer.operations.extend(found)
        case pb.ListAuditEventsResponse():
            answer.hidden += _keep(answer.events, sees)
    return answer


def _target(operation: operations_pb2.Operation) -> str:
    """The model that an operation is about."""
    metadata = pb.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return model_in(metadata.target) or ""


def _keep(found: Any, sees: Callable[[str], bool]) -> int:
    """Takes out of a repeated field what may not be seen; how many there were."""
    kept = [one for one in found if sees(one.model)]
    gone = len(found) - len(kept)
    if gone:
        del found[:]
        found.extend(kept)
    return gone
