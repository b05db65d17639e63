import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.controlplane.instance import Instance, StatusLines, WorkerSpec, WorkerStatus
from gateway.controlplane.lifetime import WORKER
from gateway.controlplane.settings import WorkerSettings
from gateway.controlplane.tasks import Bell, Tasks
from gateway.routing.snapshot import Tensor
from tests.children.world import Book, put, worker_host


@asynccontextmanager
async def running(
    told: str,
    tmp_path: Path,
    run_dir: Path,
    book: Book,
    may_start: Callable[[], str] = str,
    max_memory: int = 0,
) -> AsyncIterator[tuple[Instance, Bell]]:
    settings = WorkerSettings(max_memory=max_memory)
    spec = WorkerSpec("digits", 1, False, put(tmp_path, "digits", 1, told), settings)
    bell, tasks = Bell(), Tasks()
    instance = Instance(spec, worker_host(run_dir, book), may_start, bell.ring)
    tasks.start(instance.run(), "instance")
    try:
        yield instance, bell
    finally:
        await instance.stop()
        await tasks.close()


async def test_a_worker_is_ready_when_it_says_so(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book) as (instance, bell):
        await bell.until(lambda: bool(instance.address))
        assert Path(instance.address).parent == run_dir
        assert instance.ready_status == WorkerStatus(
            "ready", inputs=(X,), outputs=(X,), batched=True, load_ms=1.0, warmup_ms=2.0
        )
        assert (instance.error, instance.restarts, instance.looping) == ("", 0, False)
    assert left_in(run_dir) == []


async def test_a_killed_worker_comes_back_at_another_address(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book) as (instance, bell):
        await bell.until(lambda: bool(instance.address))
        before = instance.address
        os.kill(await book.pid(WORKER), signal.SIGKILL)
        await bell.until(lambda: not instance.address)
        await bell.until(lambda: bool(instance.address))
        assert instance.address != before
        assert (instance.error, instance.restarts) == ("", 1)


async def test_a_failed_load_is_reported_and_not_repeated_until_asked(
    tmp_path: Path, run_dir: Path, book: Book
) -> None:
    async with running("fail not a model", tmp_path, run_dir, book) as (instance, bell):
        await bell.until(lambda: bool(instance.error))
        assert instance.error == "not a model"
        put(tmp_path, "digits", 1, "ok")
        instance.retry()
        await bell.until(lambda: bool(instance.address))
        assert (instance.error, instance.restarts) == ("", 0)


async def test_what_forbids_a_start_now_counts_more_than_how_the_last_one_failed(
    tmp_path: Path, run_dir: Path, book: Book
) -> None:
    reason = [""]
    async with running("fail not a model", tmp_path, run_dir, book, lambda: reason[0]) as (instance, bell):
        await bell.until(lambda: instance.error == "not a model")
        reason[0] = "the folder is gone"
        assert instance.error == "the folder is gone"


@pytest.mark.usefixtures("_quick_restarts")
async def test_a_crash_loop_is_reported_with_the_last_words(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("crash", tmp_path, run_dir, book) as (instance, bell):
        await bell.until(lambda: bool(instance.error))
        assert instance.error == ("worker keeps crashing: exited with code 7, last words: out of luck; see the log")
        assert (instance.looping, instance.restarts) == (True, 5)


@pytest.mark.usefixtures("_quick_restarts")
async def test_one_that_crashes_after_it_was_ready_is_a_crash_loop_too(
    tmp_path: Path, run_dir: Path, book: Book
) -> None:
    async with running("shy", tmp_path, run_dir, book) as (instance, bell):
        await bell.until(lambda: instance.looping)
        assert "exited with code 9" in instance.error


async def test_nothing_is_started_while_it_is_forbidden(tmp_path: Path, run_dir: Path, book: Book) -> None:
    reason = ["the files changed"]
    async with running("ok", tmp_path, run_dir, book, lambda: reason[0]) as (instance, bell):
        await asyncio.sleep(0)
        assert instance.error == "the files changed"
        assert book.alive == {}
        reason[0] = ""
        instance.look_again()
        await bell.until(lambda: bool(instance.address))
        assert instance.error == ""


@pytest.mark.usefixtures("_quick_restarts")
async def test_a_program_that_cannot_be_started_is_a_crash(tmp_path: Path, run_dir: Path, book: Book) -> None:
    spec = WorkerSpec("digits", 1, False, put(tmp_path, "digits", 1), WorkerSettings())
    host = worker_host(run_dir, book)
    host = type(host)(host.launcher, ("/nowhere/python",), run_dir)
    bell, tasks = Bell(), Tasks()
    instance = Instance(spec, host, str, bell.ring)
    tasks.start(instance.run(), "instance")
    await bell.until(lambda: bool(instance.error))
    await instance.stop()
    await tasks.close()
    assert "could not be started: No such file or directory" in instance.error


@pytest.mark.usefixtures("_quick_restarts")
async def test_one_that_holds_too_much_memory_is_replaced(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book, max_memory=1) as (instance, bell):
        assert instance.excess_bytes == 0, "nobody is there"
        for restarts in range(1, 6):
            await bell.until(lambda: bool(instance.address))
            held = instance.excess_bytes
            assert held > 1
            ending = asyncio.gather(instance.replace_heavy(held), instance.replace_heavy(held))
            await asyncio.sleep(0)
            assert instance.excess_bytes == 0, "it is being ended already"
            assert book.alive, "it still finishes its frame"
            assert not instance.address, "but gets no others"
            await ending
            await bell.until(lambda: instance.restarts == restarts)  # noqa: B023 - called at once
        await bell.until(lambda: bool(instance.error))
        assert (
            instance.error
            == f"worker keeps crashing: held {held >> 20} MiB of memory, and max_memory is 0 MiB; see the log"
        )


@pytest.mark.parametrize("max_memory", [0, 1 << 40])
async def test_one_that_holds_what_it_may_is_left_alone(
    tmp_path: Path, run_dir: Path, book: Book, max_memory: int
) -> None:
    async with running("ok", tmp_path, run_dir, book, max_memory=max_memory) as (instance, bell):
        await bell.until(lambda: bool(instance.address))
        assert instance.excess_bytes == 0


def test_the_command_line_says_everything_a_worker_needs() -> None:
    spec = WorkerSpec("digits", 1, True, Path("/m/digits/1/model.onnx"), WorkerSettings(1, 2, 8, "off", max_memory=99))
    assert spec.arguments(Path("/run/w1.sock"), 5) == [
        *("--model", "/m/digits/1/model.onnx", "--socket", "/run/w1.sock", "--status-fd", "5"),
        *("--threads", "2", "--max-batch-size", "8", "--batching", "off", "--max-memory", "99", "--idle"),
    ]


async def test_status_lines_survive_cuts_and_nonsense() -> None:
    heard: list[WorkerStatus] = []
    lines = StatusLines(heard.append)
    for piece in (b'{"state":"loa', b'ding"}\nnonsense\n{"state":"failed","error":"x"}', b"\n"):
        lines.data_received(piece)
    lines.connection_lost(None)
    assert heard == [WorkerStatus("loading"), WorkerStatus("failed", error="x")]
    assert lines.ended.done()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


X = Tensor("X", "FP32", (-1, 3))
