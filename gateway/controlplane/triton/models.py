"""RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload.

Here a release says which versions answer, and versions are immutable: a client can take a model out of service and
back, and nothing more. What it unloaded is loaded again after a restart.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import structlog

from gateway.controlplane.ports import VersionStatus
from gateway.controlplane.registry import Registry
from gateway.controlplane.triton.requests import read
from gateway.errors import Forbidden, InvalidRequest, NotFound
from gateway.routing.link import Errand
from gateway.routing.snapshot import Release
from protos import inference_pb2 as pb

log = structlog.get_logger()

FORBIDDEN = 'clients may not load and unload models here; set model_control = "explicit" under [triton] to let them'
ONE_REPOSITORY = "there is one repository, the models directory; leave repository_name empty"
NO_OVERRIDE = (
    "versions are immutable here: put the files into the models directory as a new version, with a model.toml for its "
    "settings, and release it with `cutover`"
)
SPARE = "loaded, but no arm of the release answers with it"
STANDS_BY = "no arm of the release answers with it"

Entry = pb.RepositoryIndexResponse.ModelIndex
Request = pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest


class Service(Protocol):
    """Which models are in service (`fleet.LocalFleet`)."""

    async def load(self, model: str) -> None: ...
    async def unload(self, model: str) -> None: ...
    def statuses(self) -> list[VersionStatus]: ...


class Register(Protocol):
    """The door to releases (`releases.Releases`)."""

    def list(self) -> tuple[Release, ...]: ...
    async def register(self, model: str, version: int) -> Release: ...


class Models:
    """The errands about the models directory."""

    def __init__(self, registry: Registry, releases: Register, service: Service, *, may_control: bool) -> None:
        """Without `may_control` Load and Unload are refused."""
        self._registry = registry
        self._releases = releases
        self._service = service
        self._may_control = may_control
        self._turn: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def index(self, errand: Errand) -> bytes:
        """Every version there is, or only those that are ready."""
        request = read(pb.RepositoryIndexRequest, errand.message)
        if request.repository_name:
            raise InvalidRequest(ONE_REPOSITORY)
        entries = index(self._service.statuses(), self._releases.list())
        found = [one for one in entries if one.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(models=found).SerializeToString()

    async def load(self, errand: Errand) -> bytes:
        """Returns when every live version of the model is ready. A model without a release gets its first one."""
        request = read(pb.RepositoryModelLoadRequest, errand.message)
        model = self._model(request)
        for name in request.parameters:
            raise InvalidRequest(f"parameter '{name}': {NO_OVERRIDE}")
        if not self._released(model):
            await self._register(model)
        async with self._turn[model]:
            await self._service.load(model)
        log.info("model loaded by a client", model=model, peer=errand.peer)
        return pb.RepositoryModelLoadResponse(model_name=model, isLoaded=True).SerializeToString()

    async def unload(self, errand: Errand) -> bytes:
        """Returns when no proxy takes requests for the model any more."""
        request = read(pb.RepositoryModelUnloadRequest, errand.message)
        model = self._model(request)
        for name in request.parameters:
            if name != "unload_dependents":  # nothing depends on a model here
                raise InvalidRequest(f"parameter '{name}' is unknown; unload_dependents is the only one")
        if not self._released(model):
            raise NotFound(f"model '{model}' is not served here")
        async with self._turn[model]:
            await self._service.unload(model)
        log.info("model unloaded by a client", model=model, peer=errand.peer)
        return pb.RepositoryModelUnloadResponse(model_name=model, isUnloaded=True).SerializeToString()

    def _model(self, request: Request) -> str:
        """Which model is meant. KServe's clients put its name where Triton's put that of a repository."""
        if not self._may_control:
            raise Forbidden(FORBIDDEN)
        if request.model_name and request.repository_name:
            raise InvalidRequest(ONE_REPOSITORY)
        model = request.model_name or request.repository_name
        if not model:
            raise InvalidRequest("model_name is empty")
        return model

    def _released(self, model: str) -> bool:
        return any(release.model == model for release in self._releases.list())

    async def _register(self, model: str) -> None:
        """What the gateway does by itself when it sees a model for the first time, now."""
        await self._registry.settle()
        fit = [key[1] for key, found in self._registry.versions.items() if key[0] == model and not found.error]
        if not fit:
            raise NotFound(f"there is no version of model '{model}' that could be loaded in the models directory")
        await self._releases.register(model, max(fit))
        self._registry.announced(model)


def index(statuses: Iterable[VersionStatus], releases: Iterable[Release]) -> list[Entry]:
    """Versions in Triton's words: READY is what a client may name in a request."""
    live = {(release.model, version) for release in releases for version in release.policy.live}
    return [
        Entry(name=one.model, version=str(one.version), state=state, reason=reason)
        for one in statuses
        for state, reason in [_state(one, live=(one.model, one.version) in live)]
    ]


def _state(status: VersionStatus, *, live: bool) -> tuple[str, str]:
    """(state, reason)"""
    match status.state:
        case "ready":
            return ("READY", "") if live else ("UNAVAILABLE", SPARE)
        case "loading" | "unloading":
            return status.state.upper(), status.error
        case "found":
            return "UNAVAILABLE", STANDS_BY
    return "UNAVAILABLE", status.error
