import errno
import json
import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.triton import tracefile
from gateway.controlplane.triton.tracefile import TraceFile, append, entries
from gateway.routing.outcome import Trace


def trace(request_id: str = "") -> Trace:
    return Trace("m", 3, request_id, 1, 2, 3, 4, 5)


def test_the_entries_of_a_trace() -> None:
    who, stamps = (json.loads(entry) for entry in entries(7, trace("r")))
    assert who == {"id": 7, "model_name": "m", "model_version": 3, "request_id": "r"}
    assert stamps["id"] == 7
    points = {stamp["name"]: stamp["ns"] for stamp in stamps["timestamps"]}
    assert points == {
        "REQUEST_START": 1,
        "QUEUE_START": 1,
        "COMPUTE_START": 2,
        "COMPUTE_INPUT_END": 3,
        "COMPUTE_OUTPUT_START": 4,
        "COMPUTE_END": 4,
        "REQUEST_END": 5,
    }
    assert "request_id" not in json.loads(entries(7, trace())[0])


@given(st.lists(st.lists(st.text(), min_size=1, max_size=3), min_size=1, max_size=4))
def test_the_file_is_an_array_after_every_write(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("traces") / "traces.json"
    said: list[str] = []
    for ids in writes:
        append(path, [entries(1, trace(f"r{one}"))[0] for one in ids])
        said += [f"r{one}" for one in ids]
        assert [entry["request_id"] for entry in json.loads(path.read_text())] == said


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("room", [0, 1, 5, 40])
def test_a_disk_that_is_full_in_the_middle_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, room: int
) -> None:
    path = tmp_path / "traces.json"
    if before:
        append(path, [b'{"id": 1}'])
    content = path.read_bytes() if before else b""
    pwrite, left = os.pwrite, room

    def fill(number: int, data: bytes, start: int) -> int:
        """Only what makes the file longer needs room."""
        nonlocal left
        longer = start + len(data) - os.fstat(number).st_size
        if longer > 0 and not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: len(data) - max(0, longer - left)]
        left -= max(0, start + len(taken) - os.fstat(number).st_size)
        return pwrite(number, taken, start)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fill)
        with pytest.raises(OSError, match="No space left"):
            append(path, [b'{"id": 2}'] * 30)
    assert path.read_bytes() == content
    append(path, [b'{"id": 3}'])
    assert [entry["id"] for entry in json.loads(path.read_text())] == [1] * before + [3]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("words")
    with pytest.raises(ValueError, match="move it away"):
        append(path, [b"{}"])
    assert path.read_text() == "words"


async def test_so_many_traces_go_into_each_file(tmp_path: Path) -> None:
    (tmp_path / "t.json.0").write_text("[]")  # of an earlier time
    file = TraceFile(tmp_path / "t.json")
    file.add([trace(str(number)) for number in range(5)], frequency=2)
    await file.close()
    file.add([trace("5")], frequency=2)
    await file.close()

    def ids(name: str) -> list[str]:
        return [entry["request_id"] for entry in json.loads((tmp_path / name).read_text()) if "request_id" in entry]

    assert [ids(f"t.json.{number}") for number in (1, 2, 3)] == [["0", "1"], ["2", "3"], ["4", "5"]]
    file.add([trace("6"), trace("7")], frequency=0)
    await file.close()
    assert ids("t.json") == ["6", "7"]


async def test_every_trace_has_a_number_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):  # two runs of the gateway
        file = TraceFile(tmp_path / "t.json")
        file.add([trace(), trace()], frequency=0)
        await file.close()
    numbers = [entry["id"] for entry in json.loads((tmp_path / "t.json").read_text()) if "model_name" in entry]
    assert len(set(numbers)) == 4


async def test_a_disk_that_takes_nothing_costs_traces_and_one_line(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "nowhere" / "t.json")
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            file.add([trace()], frequency=0)
            await file.close()
    assert [line["event"] for line in logged] == ["traces could not be written and are lost"]
    (tmp_path / "nowhere").mkdir()
    file.add([trace("later")], frequency=0)
    await file.close()
    assert "later" in (tmp_path / "nowhere" / "t.json").read_text()


async def test_what_waits_for_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefile, "MAX_WAITING", 3)
    file = TraceFile(tmp_path / "t.json")
    file.add([trace()] * 5, frequency=0)
    await file.close()
    assert len(json.loads((tmp_path / "t.json").read_text())) == 6
