import pytest

from gateway.errors import NotFound
from tests.unit.gateway.controlplane.api.conftest import World
from tests.unit.gateway.controlplane.fake_fleet import status


def test_a_model_with_a_release_or_a_folder_is_known(world: World) -> None:
    world.fleet.known = [status("wine", 1)]
    for model in (None, "iris", "wine"):
        world.known.check(model)
    with pytest.raises(NotFound, match="there is no model digits; models: iris, wine"):
        world.known.check("digits")


def test_models_that_may_not_be_seen_are_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fleet.known = [status("wine", 1)]
    monkeypatch.setattr("gateway.controlplane.api.known.may_see", lambda model: model == "wine")
    with pytest.raises(NotFound, match=r"there is no model digits; models: wine$"):
        world.known.check("digits")
