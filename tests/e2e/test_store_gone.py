"""Bad days of the store: it is gone, broken, or put back to an older state. What was served is served on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import grpc
import pytest

from tests import models
from tests.e2e.calls import ask
from tests.e2e.waiting import eventually
from tests.postgres import Server
from tests.serving import CUTOVER, Gateway, ServingError, serving


def flipped(models_dir: Path, state_dir: Path) -> Gateway:
    """A gateway on which `number` was flipped from 2 to 1; `old` keeps the store as it was before."""
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    gateway = Gateway(models_dir, state_dir)
    gateway.cutover("standby", "set", "number", "1", "--reason", "test")
    assert gateway.stop() == 0
    shutil.copy(state_dir / "cutover.db", state_dir / "old.db")
    gateway = Gateway(models_dir, state_dir)
    gateway.cutover("flip", "number", "--reason", "test")
    return gateway


def refused(gateway: Gateway) -> str:
    """What a change is refused with."""
    done = gateway.cutover("rollback", "number", "--reason", "test", check=False)
    assert done.returncode == 1, done
    return done.stderr


@pytest.mark.slow
def test_a_broken_store_is_no_end_of_serving_and_an_older_one_no_way_back(models_dir: Path, state_dir: Path) -> None:
    gateway = flipped(models_dir, state_dir)
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.kill()
    for left in state_dir.glob("cutover.db*"):
        left.unlink()
    (state_dir / "cutover.db").write_bytes(b"this is no database" * 1000)
    with serving(models_dir, state_dir) as broken:
        assert ask(broken.target, "number")[0] == 1, "as it was flipped"
        assert "file is not a database" in refused(broken)
        assert broken.metric("cutover_store_up") == 0
        assert "file is not a database" in broken.cutover("models").stdout.replace("\n", " ")
    shutil.copy(state_dir / "old.db", state_dir / "cutover.db")
    with serving(models_dir, state_dir) as older:
        assert ask(older.target, "number")[0] == 1, "not as the store has it"
        assert "older than what was served" in refused(older)
        assert older.metric("cutover_store_up") == 0


@pytest.mark.slow
def test_a_backup_is_restored_and_a_copy_put_back_by_hand_is_accepted(models_dir: Path, state_dir: Path) -> None:
    gateway = flipped(models_dir, state_dir)
    copy = state_dir.with_name("copy.jsonl")
    try:
        gateway.cutover("backup", str(copy))
        gateway.cutover("rollback", "number", "--reason", "test")
        assert ask(gateway.target, "number")[0] == 2
    finally:
        gateway.stop()
    done = subprocess.run([CUTOVER, "restore", copy, "--state", state_dir], capture_output=True, text=True, check=True)
    assert "number: now revision 5, for newer ones were served" in done.stdout
    with serving(models_dir, state_dir) as restored:
        assert ask(restored.target, "number")[0] == 1, "as it was when it was copied"
        assert restored.metric("cutover_store_up") == 1
        assert "restore" in restored.cutover("audit").stdout
        restored.cutover("audit", "--verify")
        restored.cutover("rollback", "number", "--reason", "test")
        assert ask(restored.target, "number")[0] == 2
    for left in state_dir.glob("cutover.db*"):
        left.unlink()
    shutil.copy(state_dir / "old.db", state_dir / "cutover.db")
    accepting = [str(CUTOVER), "restore", "--accept", "--state", str(state_dir)]
    done = subprocess.run(accepting, capture_output=True, text=True, check=True)
    assert "number: now revision 7" in done.stdout
    with serving(models_dir, state_dir) as accepted:
        assert ask(accepted.target, "number")[0] == 2, "as before the flip"
        accepted.cutover("flip", "number", "--reason", "test")
        assert ask(accepted.target, "number")[0] == 1


@pytest.mark.slow
def test_a_store_that_vanishes_under_a_gateway_is_noticed(models_dir: Path, state_dir: Path) -> None:
    gateway = flipped(models_dir, state_dir)
    try:
        for left in state_dir.glob("cutover.db*"):
            left.unlink()
        eventually(lambda: gateway.metric("cutover_store_up") == 0)
        assert ask(gateway.target, "number")[0] == 1
        assert "was replaced or removed while in use" in refused(gateway)
    finally:
        gateway.kill()
    with serving(models_dir, state_dir) as empty:
        assert ask(empty.target, "number")[0] == 1
        assert "it has no release of number" in refused(empty)


@pytest.mark.slow
@pytest.mark.parametrize("cut_off", ["serve", "stop"])
def test_a_gateway_starts_without_its_database_and_finds_it_again(
    models_dir: Path, state_dir: Path, own_postgres: Server, cut_off: str
) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    config = state_dir.with_name("cutover.toml")
    config.write_text(f'[store]\nurl = "{own_postgres.create_database()}"\ncut_off = "{cut_off}"\n')
    with serving(models_dir, state_dir, "--config", str(config)) as gateway:
        gateway.cutover("standby", "set", "number", "1", "--reason", "test")
        gateway.cutover("flip", "number", "--reason", "test")
    own_postgres.stop()
    with serving(models_dir, state_dir, "--config", str(config)) as gateway:
        assert gateway.metric("cutover_store_up") == 0
        if cut_off == "serve":
            assert ask(gateway.target, "number")[0] == 1
        else:
            with pytest.raises(grpc.RpcError, match="has lost its store"):
                ask(gateway.target, "number")
        assert refused(gateway)
        own_postgres.start()
        eventually(lambda: gateway.metric("cutover_store_up") == 1, limit_s=60)
        eventually(lambda: not gateway.cutover("rollback", "number", "--reason", "t", check=False).returncode, 60)
        eventually(lambda: answer(gateway) == 2)


def answer(gateway: Gateway) -> int:
    """Which version answers; 0: none."""
    try:
        return ask(gateway.target, "number")[0]
    except grpc.RpcError:
        return 0


def test_without_anything_that_was_served_a_broken_store_is_no_start(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    state_dir.mkdir(exist_ok=True)
    (state_dir / "cutover.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(ServingError, match=r"ended with 2: .*not a database; restore it from a backup"):
        Gateway(models_dir, state_dir)
