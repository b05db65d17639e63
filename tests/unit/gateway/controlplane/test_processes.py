import asyncio
import os
import signal
import sys

import pytest

from gateway.controlplane.processes import Child, Launcher, describe_exit, held_bytes, python_module, start_ticks
from tests.children.world import Book

PYTHON = (sys.executable, "-I", "-S", "-c")


async def start(book: Book, code: str, lines: list[str]) -> Child:
    return await Launcher(book).start("test", [*PYTHON, code], lines.append)


async def test_output_arrives_by_lines_and_the_exit_code_after_them() -> None:
    book, lines = Book(), list[str]()
    child = await start(
        book, "import sys; print('one'); print('two', file=sys.stderr); print('end', end=''); sys.exit(5)", lines
    )
    assert book.alive == {child.pid: "test"}
    assert await child.wait() == 5
    assert sorted(lines) == ["end", "one", "two"]
    assert not book.alive


async def test_a_line_without_an_end_is_cut() -> None:
    lines = list[str]()
    child = await start(Book(), "print('x' * 100_000, end='')", lines)
    await child.wait()
    assert 1 < len(lines) < 20
    assert set("".join(lines)) == {"x"}


async def test_stop_asks_first_and_kills_after_the_grace() -> None:
    polite, lines = await start(Book(), "import time; print('up', flush=True); time.sleep(60)", []), list[str]()
    assert await polite.stop(grace_s=30) == -signal.SIGTERM
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    stubborn = await start(Book(), code, lines)
    while not lines:  # noqa: ASYNC110 - output is what we wait for
        await asyncio.sleep(0.01)
    assert await stubborn.stop(grace_s=0.05) == -signal.SIGKILL
    assert not stubborn.running
    stubborn.send(signal.SIGKILL)  # to nobody


async def test_children_never_see_the_interrupt_meant_for_us() -> None:
    lines = list[str]()
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)"
    starts = [start(Book(), code, lines) for _ in range(3)]
    await asyncio.gather(*[child.wait() for child in await asyncio.gather(*starts)])
    assert lines == ["True"] * 3
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


async def test_only_wanted_files_are_inherited() -> None:
    lines = list[str]()
    reading, writing = os.pipe()
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    code = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')), flush=True)"
    child = await Launcher(Book()).start("test", [*PYTHON, code], lines.append, [writing])
    await child.wait()
    for file in (reading, writing, secret):
        os.close(file)
    inherited = {int(number) for number in lines[0].strip("[]").split(", ")}
    assert {0, 1, 2, writing} <= inherited
    assert secret not in inherited
    assert len(inherited) == 5  # and the listing itself


async def test_kill_all_ends_every_child() -> None:
    launcher = Launcher(Book())
    children = [await launcher.start("test", [*PYTHON, "import time; time.sleep(60)"], print) for _ in range(2)]
    launcher.kill_all()
    assert [await child.wait() for child in children] == [-signal.SIGKILL] * 2


async def test_a_program_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        await Launcher(Book()).start("test", ["/nowhere/python"], print)


async def test_start_ticks_name_a_living_process_only() -> None:
    child = await start(Book(), "import time; time.sleep(60)", [])
    assert start_ticks(child.pid) == start_ticks(child.pid) is not None
    await child.kill()
    assert start_ticks(child.pid) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with code 0"), (-15, "ended by SIGTERM"), (-9, "ended by SIGKILL (killed by hand or by the kernel")],
)
def test_exits_are_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code).startswith(words)


def test_a_child_runs_no_code_from_the_current_directory() -> None:
    assert python_module("workers") == [sys.executable, "-P", "-m", "workers"]


def test_what_a_process_holds_is_its_own_memory() -> None:
    before = held_bytes(os.getpid())
    block = bytearray(b"x") * (64 << 20)
    assert held_bytes(os.getpid()) - before > 60 << 20
    assert block


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert held_bytes(2**22 + 1) == 0
