"""Which models there are: to have nothing to tell about one is not the same as not to know it."""

from gateway.controlplane.api.caller import may_see
from gateway.controlplane.ports import Fleet
from gateway.controlplane.releases import Releases
from gateway.errors import NotFound


class Known:
    """The models that have a release or a folder."""

    def __init__(self, releases: Releases, fleet: Fleet) -> None:
        self._releases = releases
        self._fleet = fleet

    def check(self, model: str | None) -> None:
        """Raises NotFound for a model that has neither a release nor a folder; None: all models."""
        if model is None or model in self._releases.models():
            return
        known = self._releases.models() | {one.model for one in self._fleet.statuses()}
        if model not in known:
            told = sorted(filter(may_see, known))
            raise NotFound(f"there is no model {model}; models: {', '.join(told) or 'none'}")
