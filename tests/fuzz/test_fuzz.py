"""The fuzz targets in short: seeds, mutations of them, and, where atheris is installed, some seconds guided by it."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import fuzz_connection, fuzz_hpack
from tests.fuzz.memory import held_bytes
from tests.fuzz.mutate import mutations

TARGETS = {"connection": fuzz_connection, "hpack": fuzz_hpack}
SECONDS = 10


def run(check: Callable[[bytes], None], data: bytes) -> None:
    """One input; what is wrong with it names it, so that it can be run again."""
    try:
        check(data)
    except Exception as error:
        error.add_note(f"input: bytes.fromhex({data.hex()!r})")
        raise


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds():
        run(TARGETS[name].check, seed)


@pytest.mark.parametrize(("name", "number"), [("connection", 400), ("hpack", 400)])
def test_some_mutations(name: str, number: int) -> None:
    for data in mutations(TARGETS[name].seeds(), number, seed=1):
        run(TARGETS[name].check, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_mutations(name: str, seed: int) -> None:
    for data in mutations(TARGETS[name].seeds(), 5000, seed):
        run(TARGETS[name].check, data)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (extra `fuzz`)")
@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage(name: str, tmp_path: Path) -> None:
    options = [f"-max_total_time={SECONDS}", "-timeout=10", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz", name, str(tmp_path / "corpus"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "stat::number_of_executed_units" in done.stderr


def test_the_seeds_say_something() -> None:
    """They are understood: calls are made of them, none of the frames is an error but where one is meant."""
    served = 0
    for seed in fuzz_connection.seeds():
        one = fuzz_connection.Run(seed)
        one.go()
        served += sum(state == "end" for state in one.watcher._streams.values())
    assert served >= 20


def test_held_memory_counts_what_is_owned() -> None:
    large = [bytes(1000), {"key": bytes(1000)}]
    assert 2000 < held_bytes(large) < 3000
    assert held_bytes([large, large]) < held_bytes(large) + 200, "once"
    assert held_bytes([large], large) < 200
