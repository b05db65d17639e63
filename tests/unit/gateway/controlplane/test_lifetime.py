import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.controlplane import lifetime as module
from gateway.controlplane.lifetime import PROXY, WORKER, Lifetime
from gateway.errors import StartupError


def sleeper(run_dir: Path, *, deaf: bool = False) -> subprocess.Popen[bytes]:
    """A process that names a run directory on its command line; a deaf one ignores SIGTERM."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    code = ignore + "import time; print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code, str(run_dir)], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    return process


def crash(lifetime: Lifetime) -> None:
    """What `kill -9` of a gateway does to its lock; everything else stays."""
    os.close(lifetime._lock_file)


def test_a_second_gateway_is_told_who_holds_the_state(tmp_path: Path) -> None:
    with Lifetime(tmp_path), pytest.raises(StartupError, match=f"in use by the gateway with pid {os.getpid()}"):
        Lifetime(tmp_path).__enter__()
    with Lifetime(tmp_path):
        pass


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be written: Not a directory; make it writable or choose another"):
        Lifetime(tmp_path / "file" / "state").__enter__()


def test_the_run_directory_is_private_short_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Lifetime(tmp_path / "state") as lifetime:
        assert lifetime.run_dir.stat().st_mode & 0o777 == 0o700
        assert lifetime.run_dir.name.startswith("cutover-")
        assert len(str(lifetime.run_dir)) < 80
    assert not lifetime.run_dir.exists()


def test_ready_is_announced_and_taken_back(tmp_path: Path) -> None:
    with Lifetime(tmp_path) as lifetime:
        lifetime.announce(grpc=1, http=2, admin=3)
        told = json.loads((tmp_path / "ready.json").read_text())
        assert told == {"grpc": 1, "http": 2, "admin": 3, "pid": os.getpid()}
    assert not (tmp_path / "ready.json").exists()


async def test_orphans_are_found_and_ended_with_what_they_left(tmp_path: Path) -> None:
    first = Lifetime(tmp_path).__enter__()
    first.listens_on(8001)
    proxy, worker = sleeper(first.run_dir), sleeper(first.run_dir)
    first.started(PROXY, proxy.pid)
    first.started(WORKER, worker.pid)
    crash(first)
    with Lifetime(tmp_path) as second:
        assert second.has_orphans
        assert second.orphan_ports == {8001}
        await second.end_orphans(drain_grace_s=30)
        assert second.orphan_ports == set()
    assert (proxy.wait(), worker.wait()) == (-signal.SIGTERM, -signal.SIGTERM)
    assert not first.run_dir.exists()


async def test_an_orphan_that_does_not_end_is_killed(tmp_path: Path) -> None:
    first = Lifetime(tmp_path).__enter__()
    proxy = sleeper(first.run_dir, deaf=True)
    first.started(PROXY, proxy.pid)
    crash(first)
    with Lifetime(tmp_path) as second:
        await asyncio.wait_for(second.end_orphans(drain_grace_s=0.1), 20)
    assert proxy.wait() == -signal.SIGKILL


async def test_an_orphan_that_cannot_be_ended_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lifetime(tmp_path).__enter__()
    proxy = sleeper(first.run_dir)
    first.started(PROXY, proxy.pid)
    crash(first)
    monkeypatch.setattr(module, "WORKER_GRACE_S", 0.02)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)  # as for a process stuck in the kernel
    with Lifetime(tmp_path) as second:
        with pytest.raises(StartupError, match=f"process {proxy.pid} of an earlier gateway does not end"):
            await second.end_orphans(drain_grace_s=0.02)
        assert second.has_orphans
    monkeypatch.undo()
    proxy.kill()
    proxy.wait()


def test_orphans_stay_known_while_a_take_over_fails(tmp_path: Path) -> None:
    first = Lifetime(tmp_path).__enter__()
    proxy = sleeper(first.run_dir)
    first.started(PROXY, proxy.pid)
    crash(first)
    with Lifetime(tmp_path):
        pass  # stopped before it came to end them
    with Lifetime(tmp_path) as third:
        assert third.has_orphans
    proxy.kill()
    proxy.wait()
    with Lifetime(tmp_path) as fourth:
        assert not fourth.has_orphans
    assert not first.run_dir.exists()


def test_a_process_that_only_has_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    first = Lifetime(tmp_path).__enter__()
    first.started(PROXY, os.getpid())  # alive, but its command line does not name the run directory
    crash(first)
    with Lifetime(tmp_path) as second:
        assert not second.has_orphans
    assert not first.run_dir.exists()


def test_a_broken_or_older_list_is_ignored(tmp_path: Path) -> None:
    for content in ("{", json.dumps(["another boot", [{"run_dir": "/tmp/cutover-x"}]])):
        (tmp_path / "processes.json").write_text(content)
        with Lifetime(tmp_path) as lifetime:
            assert not lifetime.has_orphans


def test_a_list_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    with Lifetime(tmp_path) as lifetime:
        (tmp_path / "processes.json").unlink()
        (tmp_path / "processes.json").mkdir()
        (tmp_path / "ready.json.new").mkdir()
        lifetime.started(WORKER, os.getpid())
        lifetime.ended(os.getpid())
        lifetime.announce(grpc=1)
