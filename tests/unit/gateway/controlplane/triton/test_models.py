from pathlib import Path

import pytest
import structlog
from google.protobuf.message import Message

from gateway.controlplane.ports import VersionStatus
from gateway.controlplane.registry import Registry
from gateway.controlplane.triton.models import Models, index
from gateway.errors import Forbidden, InvalidRequest, NotFound, Refused, RequestError
from gateway.routing.link import Errand
from gateway.routing.snapshot import Policy, Release
from protos import inference_pb2 as pb
from tests.children.world import put
from tests.unit.gateway.controlplane.fake_fleet import status


class Bench:
    """Model `old` is released; what else is in the directory is not."""

    def __init__(self, folder: Path, *, may_control: bool = True) -> None:
        self.did: list[str] = []
        self.known: list[VersionStatus] = []
        self.failure: RequestError | None = None
        self.current = {"old": Release("old", 1, Policy(1))}
        self.registry = Registry(folder)
        self.models = Models(self.registry, self, self, may_control=may_control)

    async def load(self, model: str) -> None:
        if self.failure:
            raise self.failure
        self.did.append(f"load {model}")

    async def unload(self, model: str) -> None:
        self.did.append(f"unload {model}")

    def statuses(self) -> list[VersionStatus]:
        return self.known

    def list(self) -> tuple[Release, ...]:
        return tuple(self.current.values())

    async def register(self, model: str, version: int) -> Release:
        self.did.append(f"register {model} {version}")
        self.current[model] = Release(model, 1, Policy(version))
        return self.current[model]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def errand(message: Message) -> Errand:
    return Errand(1, "", message.SerializeToString(), "192.0.2.1:4711")


def loading(**fields: object) -> Errand:
    return errand(pb.RepositoryModelLoadRequest(**fields))  # type: ignore[arg-type] # the message checks them


def unloading(**fields: object) -> Errand:
    return errand(pb.RepositoryModelUnloadRequest(**fields))  # type: ignore[arg-type] # the message checks them


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
async def test_triton_and_kserve_name_the_model_in_different_fields(bench: Bench, field: str) -> None:
    with structlog.testing.capture_logs() as logged:
        loaded = await bench.models.load(loading(**{field: "old"}))
        unloaded = await bench.models.unload(unloading(**{field: "old"}))
    assert bench.did == ["load old", "unload old"]
    assert pb.RepositoryModelLoadResponse.FromString(loaded) == pb.RepositoryModelLoadResponse(
        model_name="old", isLoaded=True
    )
    assert pb.RepositoryModelUnloadResponse.FromString(unloaded) == pb.RepositoryModelUnloadResponse(
        model_name="old", isUnloaded=True
    )
    assert [(line["event"], line["model"], line["peer"]) for line in logged] == [
        ("model loaded by a client", "old", "192.0.2.1:4711"),
        ("model unloaded by a client", "old", "192.0.2.1:4711"),
    ]


async def test_a_model_that_nobody_released_yet_is_registered_at_its_highest_version(
    bench: Bench, tmp_path: Path
) -> None:
    put(tmp_path, "new", 1)
    put(tmp_path, "new", 2)
    put(tmp_path, "new", 3).with_name("model.toml").write_text("instancez = 1")
    await bench.models.load(loading(model_name="new"))
    assert bench.did == ["register new 2", "load new"]
    assert "new" not in bench.registry.unannounced()


async def test_what_cannot_be_loaded_is_an_error_and_no_change(bench: Bench) -> None:
    bench.failure = Refused("old version 1 cannot be loaded: truncated")
    with pytest.raises(Refused, match="truncated"):
        await bench.models.load(loading(model_name="old"))
    with pytest.raises(NotFound, match="no version of model 'nobody' that could be loaded"):
        await bench.models.load(loading(model_name="nobody"))
    with pytest.raises(NotFound, match="'nobody' is not served here"):
        await bench.models.unload(unloading(model_name="nobody"))
    assert bench.did == []


@pytest.mark.parametrize("call", ["load", "unload"])
async def test_only_who_is_allowed_to_changes_anything(tmp_path: Path, call: str) -> None:
    bench = Bench(tmp_path, may_control=False)
    with pytest.raises(Forbidden, match=r'set model_control = "explicit" under \[triton\]'):
        await getattr(bench.models, call)(loading(model_name="old"))
    assert bench.did == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "model_name is empty"),
        ({"model_name": "old", "repository_name": "r"}, "leave repository_name empty"),
        ({"model_name": "old", "parameters": {"config": pb.ModelRepositoryParameter(string_param="{}")}}, "immutable"),
        ({"model_name": "old", "parameters": {"file:1/model.onnx": pb.ModelRepositoryParameter()}}, "as a new version"),
    ],
)
async def test_what_load_does_not_take(bench: Bench, fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        await bench.models.load(loading(**fields))


async def test_nothing_depends_on_a_model(bench: Bench) -> None:
    yes = pb.ModelRepositoryParameter(bool_param=True)
    await bench.models.unload(unloading(model_name="old", parameters={"unload_dependents": yes}))
    with pytest.raises(InvalidRequest, match="'force' is unknown"):
        await bench.models.unload(unloading(model_name="old", parameters={"force": yes}))


async def test_the_index_lists_all_or_what_is_ready(bench: Bench) -> None:
    bench.known = [status("old", 1), status("old", 2, "found")]

    async def listed(repository_name: str = "", ready: bool = False) -> list[str]:
        request = pb.RepositoryIndexRequest(repository_name=repository_name, ready=ready)
        answer = await bench.models.index(errand(request))
        return [one.version for one in pb.RepositoryIndexResponse.FromString(answer).models]

    assert (await listed(), await listed(ready=True)) == (["1", "2"], ["1"])
    with pytest.raises(InvalidRequest, match="leave repository_name empty"):
        await listed("somewhere")


@pytest.mark.parametrize(
    ("version", "state", "told", "reason"),
    [
        (1, "ready", "READY", ""),
        (2, "ready", "UNAVAILABLE", "no arm of the release answers with it"),
        (2, "found", "UNAVAILABLE", "no arm of the release answers with it"),
        (1, "loading", "LOADING", "why"),
        (1, "failed", "UNAVAILABLE", "why"),
        (1, "missing", "UNAVAILABLE", "why"),
        (1, "unloading", "UNLOADING", "why"),
        (1, "unloaded", "UNAVAILABLE", "why"),
    ],
)
def test_states_in_tritons_words(version: int, state: str, told: str, reason: str) -> None:
    found = VersionStatus("m", version, "", state, "" if state in ("ready", "found") else "why")
    (entry,) = index([found], [Release("m", 1, Policy(1))])
    assert (entry.name, entry.version, entry.state) == ("m", str(version), told)
    assert reason in entry.reason
