"""Tests of `workers.footprint`. A limit is for ever, so that it is set in a process of its own."""

import resource
import subprocess
import sys

from workers.footprint import limit, memory

MIB = 1 << 20


def in_a_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_what_is_used_is_held_and_what_is_asked_for_is_reserved() -> None:
    before = memory()
    block = bytearray(64 * MIB)
    assert memory().reserved - before.reserved >= 63 * MIB
    block[::4096] = b"x" * len(block[::4096])
    assert memory().held - before.held >= 60 * MIB


def test_a_limit_fails_what_goes_far_beyond_it_and_nothing_else() -> None:
    said = in_a_process("""
from workers.footprint import limit
assert limit(200 << 20)
small = bytearray(100 << 20)
try:
    bytearray(300 << 20)
except MemoryError:
    print("refused")
print(len(bytearray(50 << 20)) >> 20)
""")
    assert said.split() == ["refused", "50"]


def test_a_limit_from_outside_is_kept() -> None:
    said = in_a_process("""
import resource
from workers.footprint import limit
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
assert limit(8 << 30)
print(*resource.getrlimit(resource.RLIMIT_DATA))
""")
    assert said.split() == [str(1 << 30)] * 2


def test_who_holds_more_already_is_not_limited() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert not limit(1 << 20)
    assert limit(None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
