import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import structlog

from gateway.controlplane import registry as module
from gateway.controlplane.registry import Registry
from gateway.controlplane.shelf import RESTLESS_LOOKS
from gateway.errors import StartupError, StoreFailed
from tests.children.world import put


async def test_a_version_is_taken_in_once_it_is_the_same_at_two_looks(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    await registry.poll()
    path = put(tmp_path, "digits", 1, "half")
    assert not await registry.poll()
    path.write_text("half and more")
    assert not await registry.poll()
    assert registry.problems == ()
    assert await registry.poll()
    assert registry.versions_of("digits") == [1]
    assert not await registry.poll()


async def test_what_has_long_been_there_is_taken_in_at_the_first_look(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1)
    os.utime(path, (time.time() - 60, time.time() - 60))
    registry = Registry(tmp_path)
    await registry.poll()
    assert registry.find("digits", 1)


async def test_the_start_waits_for_a_second_look_when_something_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    put(tmp_path, "digits", 1)
    registry = Registry(tmp_path)
    await registry.settle()
    assert registry.find("digits", 1)


async def test_a_folder_that_stays_empty_becomes_a_problem_and_stops_being_one(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    (tmp_path / "digits" / "1").mkdir(parents=True)
    await registry.poll()
    assert registry.problems == ()
    await registry.poll()
    assert "digits/1: has no model.onnx" in "".join(registry.problems)
    put(tmp_path, "digits", 1)
    await registry.poll()
    await registry.poll()
    assert registry.problems == ()


async def test_changed_files_get_another_digest_and_touched_ones_do_not(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1, "one")
    registry = Registry(tmp_path)
    await looks(registry, 2)
    digest = registry.versions["digits", 1].digest
    os.utime(path, (1, 1))
    await looks(registry, 2)
    assert registry.versions["digits", 1].digest == digest
    path.write_text("two")
    await looks(registry, 1)
    assert registry.versions["digits", 1].digest == digest
    await looks(registry, 1)
    assert registry.versions["digits", 1].digest != digest


async def test_a_directory_that_goes_away_takes_nothing_with_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(models, "digits", 1)
    registry = Registry(models)
    await looks(registry, 2)
    shutil.move(models, tmp_path / "moved")
    assert await registry.poll()
    assert registry.find("digits", 1)
    assert "cannot be read: No such file or directory" in registry.problems[0]
    shutil.move(tmp_path / "moved", models)
    await registry.poll()
    assert registry.problems == ()


async def test_a_new_model_is_announced_at_its_highest_version_once_all_have_settled(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    async def new_models(found: Mapping[str, int]) -> None:
        told.extend(found.items())

    registry = Registry(tmp_path)
    put(tmp_path, "digits", 1)
    await registry.poll()
    path = put(tmp_path, "digits", 2, "a")
    await registry.poll()
    await registry.announce(new_models)
    assert told == []  # 2 is still being copied
    put(tmp_path, "digits", 3).with_name("model.toml").write_text("nonsense = 1")
    path.write_text("ab")
    await looks(registry, 2)
    await registry.announce(new_models)
    await registry.announce(new_models)
    assert told == [("digits", 2)]  # 3 cannot be loaded
    assert registry.problems[0].startswith("digits/3/model.toml: ")


async def test_a_model_whose_release_failed_is_announced_again(tmp_path: Path) -> None:
    told: list[int] = []

    async def new_models(found: Mapping[str, int]) -> None:
        told.extend(found.values())
        if len(told) == 1:
            raise StoreFailed("the disk is full")

    put(tmp_path, "digits", 1)
    registry = Registry(tmp_path)
    await looks(registry, 2)
    with structlog.testing.capture_logs() as logged:
        await registry.announce(new_models)
    assert logged[0]["error"] == "the disk is full"
    await registry.announce(new_models)
    assert told == [1, 1]
    assert registry.unannounced() == {}


async def test_files_that_never_rest_are_a_problem_and_hold_up_nobody(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    log = put(tmp_path, "digits", 2).with_name("training.log")
    registry = Registry(tmp_path)
    for size in range(RESTLESS_LOOKS + 1):
        log.write_text("x" * size)
        await registry.poll()
    assert registry.unannounced() == {"digits": 1}
    assert "keep changing" in registry.problems[0]


async def test_names_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    for name in (b"digits/\xff\nx", b"digits/1/\xfe.bin"):
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT))
    registry = Registry(tmp_path)
    await looks(registry, 2)
    assert registry.find("digits", 1)
    assert registry.problems == ("digits/\\udcff x: does not belong here; put it into digits/<version>/ or remove it",)


async def test_watching_goes_on_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    looked, enough = list[str](), asyncio.Event()

    def look() -> None:
        looked.append("look")
        if len(looked) == 1:
            put(tmp_path, "digits", 2)
            raise RuntimeError("unforeseen")
        enough.set()

    registry = Registry(tmp_path)
    put(tmp_path, "digits", 1)
    watching = asyncio.get_running_loop().create_task(registry.watch(look, None))
    await enough.wait()
    watching.cancel()


async def test_what_somebody_else_s_look_has_found_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    registry, told = Registry(tmp_path), asyncio.Event()
    put(tmp_path, "digits", 1)
    await looks(registry, 2)
    watching = asyncio.get_running_loop().create_task(registry.watch(told.set, None))
    await told.wait()
    watching.cancel()
    assert registry.take_changed() == {"digits"}
    assert registry.take_changed() == set()


def test_a_directory_is_required(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="does not exist"):
        Registry(tmp_path / "nowhere")


async def looks(registry: Registry, count: int) -> None:
    for _ in range(count):
        await registry.poll()
