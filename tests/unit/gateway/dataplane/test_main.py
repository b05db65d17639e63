import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.dataplane.__main__ import allow_files

COMMAND = [sys.executable, "-m", "gateway.dataplane"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_without_a_control_process_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = run("--control", str(tmp_path / "nobody"), "--index", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("proxy 0: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--control", "x", "--index", "first"]])
def test_wrong_arguments_are_explained(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: cutover-proxy" in done.stderr


def test_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
        allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_of_large_messages_is_kept_for_the_next() -> None:
    code = """
import resource
from gateway.dataplane.__main__ import keep_memory
keep_memory()
[bytearray(3 << 20) for _ in range(2)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    [bytearray(3 << 20) for _ in range(2)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 10_000, "each time anew they would be 150,000 pages"
