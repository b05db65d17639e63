import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from gateway.controlplane.lifetime import WORKER
from gateway.controlplane.pools import CHANGED_FILES, GONE, WorkerPool
from gateway.controlplane.settings import WorkerSettings
from gateway.controlplane.tasks import Bell
from gateway.errors import Refused
from tests.children.world import Book, put, version_of, worker_host


@asynccontextmanager
async def running(
    told: str, tmp_path: Path, run_dir: Path, book: Book, instances: int = 1
) -> AsyncIterator[tuple[WorkerPool, Bell]]:
    put(tmp_path, "digits", 1, told)
    bell = Bell()
    settings = WorkerSettings(instances=instances, max_batch_size=32)
    pool = WorkerPool(version_of(tmp_path), settings, worker_host(run_dir, book), bell.ring, shadow=False)
    try:
        yield pool, bell
    finally:
        await pool.stop()


async def test_a_prepared_pool_has_all_its_instances(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book, instances=2) as (pool, _):
        assert (pool.state, pool.starting, pool.settled, pool.kept) == ("loading", True, False, False)
        await pool.prepare(keep_s=60)
        assert (pool.state, pool.settled, pool.kept, pool.was_ready) == ("ready", True, True, True)
        public = pool.snapshot()
        assert len(set(public.addresses)) == 2
        assert (public.state, public.batched, public.max_batch_size) == ("ready", True, 32)
        assert public.inputs[0].name == "X"


async def test_a_pool_that_lost_one_instance_answers_but_is_not_healthy(
    tmp_path: Path, run_dir: Path, book: Book
) -> None:
    async with running("ok", tmp_path, run_dir, book, instances=2) as (pool, bell):
        await pool.prepare(keep_s=0)
        os.kill(await book.pid(WORKER), signal.SIGKILL)
        await bell.until(lambda: len(pool.addresses) == 1)
        assert (pool.state, pool.starting, pool.healthy) == ("ready", False, False)
        await bell.until(lambda: len(pool.addresses) == 2)
        assert (pool.healthy, pool.restarts) == (True, 1)


@pytest.mark.parametrize(("output", "fits"), [("X", True), ("Y", False)])
async def test_labels_of_an_output_that_is_not_there_keep_a_version_from_being_chosen(
    tmp_path: Path, run_dir: Path, book: Book, output: str, fits: bool
) -> None:
    path = put(tmp_path, "digits", 1)
    path.with_name("model.toml").write_text(f'labels = {{ {output} = "classes.txt" }}')
    path.with_name("classes.txt").write_text("cat\ndog")
    bell = Bell()
    pool = WorkerPool(version_of(tmp_path), WorkerSettings(), worker_host(run_dir, book), bell.ring, shadow=False)
    try:
        await bell.until(lambda: bool(pool.addresses))
        assert (pool.state, pool.healthy) == ("ready", fits)
        assert pool.snapshot().labels == {output: ("cat", "dog")}
        if fits:
            await pool.prepare(keep_s=0)
        else:
            with pytest.raises(Refused, match="labels of output 'Y', but the model gives X; correct the name"):
                await pool.prepare(keep_s=0)
    finally:
        await pool.stop()


async def test_a_pool_that_cannot_load_is_refused_with_the_reason(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("fail no such operator", tmp_path, run_dir, book) as (pool, _):
        with pytest.raises(Refused, match="digits version 1 cannot be loaded: no such operator"):
            await pool.prepare(keep_s=0)
        assert (pool.state, pool.snapshot().error, pool.was_ready) == ("failed", "no such operator", False)
        put(tmp_path, "digits", 1, "ok")
        await pool.prepare(keep_s=0)  # asked again, it tries again
        assert pool.state == "ready"


async def test_it_stays_for_as_long_as_whoever_wants_it_longest(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book) as (pool, _):
        await pool.prepare(keep_s=0)
        assert not pool.kept
        pool.keep(3_600)
        await pool.prepare(keep_s=0)
        pool.keep(1)
        assert pool.keep_until_s > time.monotonic() + 3_000


@pytest.mark.usefixtures("_quick_restarts")
async def test_a_crash_loop_is_refused(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("crash", tmp_path, run_dir, book) as (pool, _):
        with pytest.raises(Refused, match="keeps crashing"):
            await pool.prepare(keep_s=0)
        assert pool.state == "failed"


async def test_changed_files_are_never_loaded_under_the_same_version(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book) as (pool, bell):
        await pool.prepare(keep_s=0)
        version = version_of(tmp_path)
        pool.found(msgspec.structs.replace(version, digest="another"))
        assert pool.state == "ready"  # what is loaded goes on
        os.kill(await book.pid(WORKER), signal.SIGKILL)
        await bell.until(lambda: pool.state == "failed")
        assert pool.error == CHANGED_FILES
        pool.found(None)
        assert pool.error == GONE
        pool.found(version)
        await bell.until(lambda: pool.state == "ready")


async def test_whoever_waits_for_a_pool_that_is_stopped_hears_of_it(tmp_path: Path, run_dir: Path, book: Book) -> None:
    async with running("ok", tmp_path, run_dir, book) as (pool, bell):
        await pool.prepare(keep_s=0)
        os.kill(await book.pid(WORKER), signal.SIGKILL)
        await bell.until(lambda: not pool.addresses)
        waiting = asyncio.get_running_loop().create_task(pool.prepare(keep_s=0))
        await asyncio.sleep(0)
        await pool.stop()
        with pytest.raises(Refused, match="being stopped"):
            await waiting
