import pytest

from gateway.controlplane.access.roles import ALL, NO_ROLES, OWNER_OF_ALL, Role, Roles, role

MIXED = Roles({"iris": Role.OPERATOR, ALL: Role.VIEWER})


@pytest.mark.parametrize(
    ("roles", "asked", "model", "may"),
    [
        (NO_ROLES, Role.VIEWER, "iris", False),
        (OWNER_OF_ALL, Role.OWNER, "iris", True),
        (OWNER_OF_ALL, Role.OWNER, None, True),
        (MIXED, Role.OPERATOR, "iris", True),
        (MIXED, Role.OWNER, "iris", False),
        (MIXED, Role.OPERATOR, "wine", False),
        (MIXED, Role.VIEWER, "wine", True),
        (MIXED, Role.OPERATOR, None, False),
        (Roles({"iris": Role.OWNER}), Role.VIEWER, None, False),
        (Roles({"iris": Role.OWNER}), Role.VIEWER, ALL, False),
    ],
)
def test_a_role_holds_for_its_models(roles: Roles, asked: Role, model: str | None, may: bool) -> None:
    assert roles.may(asked, model) is may


def test_an_owner_gives_what_is_about_its_models_only() -> None:
    iris = Roles({"iris": Role.OWNER})
    assert iris.owns(Roles({"iris": Role.OWNER}))
    assert not iris.owns(Roles({"iris": Role.VIEWER, "wine": Role.VIEWER}))
    assert not iris.owns(Roles({ALL: Role.VIEWER}))
    assert OWNER_OF_ALL.owns(Roles({ALL: Role.OWNER, "wine": Role.VIEWER}))


def test_roles_are_said_in_words() -> None:
    assert str(MIXED) == "viewer, operator of iris"
    assert str(NO_ROLES) == "no role"
    assert role("owner") is Role.OWNER
    with pytest.raises(ValueError, match="'boss' is no role; roles: viewer, operator, owner"):
        role("boss")
