"""Whether a caller may make a call. What the guard does to real calls: tests/integration/test_access.py."""

import pytest

from gateway.controlplane.access.guard import calling, refusal
from gateway.controlplane.access.identity import Caller
from gateway.controlplane.access.needs import About, Need
from gateway.controlplane.access.roles import ALL, NO_ROLES, Role, Roles

IRIS = Caller("token:ci", Roles({"iris": Role.OPERATOR}))
NOBODY = Caller("certificate:x", NO_ROLES)
EVERYWHERE = Caller("token:all", Roles({ALL: Role.VIEWER}))
LOOK, CHANGE = Need(Role.VIEWER, About.NAME), Need(Role.OPERATOR, About.NAME)
LIST, OWN, WHOLE = Need(Role.VIEWER, About.LIST), Need(Role.OWNER, About.OWN), Need(Role.VIEWER, About.ALL)


@pytest.mark.parametrize(
    ("caller", "need", "model", "why"),
    [
        (IRIS, LOOK, "iris", None),
        (IRIS, CHANGE, "iris", None),
        (IRIS, CHANGE, "wine", "Do needs operator of wine; token:ci has operator of iris"),
        (IRIS, CHANGE, None, "Do needs operator of all models; token:ci has operator of iris"),
        (IRIS, LIST, None, None),
        (IRIS, LIST, "wine", "Do needs viewer of wine; token:ci has operator of iris"),
        (IRIS, WHOLE, None, "Do needs viewer of all models; token:ci has operator of iris"),
        (EVERYWHERE, WHOLE, None, None),
        (EVERYWHERE, CHANGE, "iris", "Do needs operator of iris; token:all has viewer"),
        (NOBODY, LIST, None, "Do needs viewer of a model; certificate:x has no role"),
        (IRIS, OWN, None, "Do needs owner of a model; token:ci has operator of iris"),
        (Caller("o", Roles({"iris": Role.OWNER})), OWN, None, None),
        (Caller("o", Roles({ALL: Role.OWNER})), None, "iris", "nobody may call Do"),
    ],
)
def test_a_call_is_refused_with_what_it_needs(
    caller: Caller, need: Need | None, model: str | None, why: str | None
) -> None:
    assert refusal(caller, "Do", need, model) == why


def test_a_name_of_any_length_is_told_in_part() -> None:
    assert len(refusal(NOBODY, "Do", LOOK, "x" * 10_000) or "") < 400


def test_without_a_guard_nobody_is_known() -> None:
    assert calling() is None
