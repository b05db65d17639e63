import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import regions as module
from gateway.dataplane.regions import Regions, Shared, Sharing
from gateway.errors import InvalidRequest, QueueFull, RequestError
from gateway.oip.request import Head, Input
from gateway.oip.reserved import Place
from gateway.routing.snapshot import Region


def region(directory: Path, size: int = 16, offset: int = 4, name: str = "r", key: str = "/object") -> Region:
    """A region with an object of 32 bytes: 0, 1, 2..."""
    path = directory / key.removeprefix("/")
    if not path.exists():
        path.write_bytes(bytes(range(32)))
    status = path.stat()
    return Region(name, key, offset, size, status.st_dev, status.st_ino)


def open_files(directory: Path) -> list[str]:
    """Which of its files this process has open."""
    files = [Path("/proc/self/fd") / entry.name for entry in Path("/proc/self/fd").iterdir()]
    targets = [file.readlink() for file in files if file.is_symlink()]
    return [target.name for target in targets if target.parent == directory]


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    made = Regions(tmp_path)
    made.update([region(tmp_path)])
    yield made
    made.close()


def refused(regions: Regions, place: Place) -> str:
    with pytest.raises(InvalidRequest) as caught:
        regions.read("input 'X'", place)
    with pytest.raises(InvalidRequest) as checked:
        regions.check("input 'X'", place)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


def test_a_tensor_is_read_where_it_lies(regions: Regions) -> None:
    assert bytes(regions.read("input 'X'", Place("r", 4, 2))) == bytes([6, 7, 8, 9])
    assert bytes(regions.read("input 'X'", Place("r", 16, 0))) == bytes(range(4, 20))
    assert bytes(regions.read("input 'X'", Place("r", 0, 16))) == b""


def test_a_tensor_is_written_where_it_is_wanted(regions: Regions, tmp_path: Path) -> None:
    regions.write("output 'Y'", Place("r", 4, 12), memoryview(b"wxyz"))
    expected = bytes(range(16)) + b"wxyz" + bytes(range(20, 32))
    assert (tmp_path / "object").read_bytes() == expected


def test_what_is_too_large_is_told_the_size_it_needs(regions: Regions, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="it takes 9 bytes, but 'shared_memory_byte_size' is 8"):
        regions.write("output 'Y'", Place("r", 8, 0), memoryview(b"x" * 9))
    assert (tmp_path / "object").read_bytes() == bytes(range(32))


@pytest.mark.parametrize(
    "place", [Place("r", 17, 0), Place("r", 1, 16), Place("r", 2**63 - 1, 2**63 - 1), Place("r", 2**64 - 1, 1)]
)
def test_nothing_outside_the_region_is_touched(regions: Regions, tmp_path: Path, place: Place) -> None:
    assert refused(regions, place) == (
        f"input 'X': offset {place.offset} and {place.size} bytes are more than region 'r' has, 16 bytes"
    )
    with pytest.raises(InvalidRequest, match="are more than region 'r' has"):
        regions.write("output 'Y'", place, memoryview(b"x"))
    assert (tmp_path / "object").read_bytes() == bytes(range(32))


def test_a_region_that_nobody_registered(regions: Regions) -> None:
    text = refused(regions, Place("x" * 1000, 1, 0))
    assert text == f"input 'X': shared memory region '{'x' * 128}' is not registered, or its object is gone"


def test_without_shared_memory_the_switch_is_named() -> None:
    assert refused(Regions(allowed=False), Place("r", 1, 0)) == (
        "input 'X': shared memory is off; the operator may set shared_memory = true in [triton]"
    )


def test_an_object_that_shrank_is_an_error_and_not_a_signal(regions: Regions, tmp_path: Path) -> None:
    os.truncate(tmp_path / "object", 10)
    assert bytes(regions.read("input 'X'", Place("r", 6, 0))) == bytes(range(4, 10))
    text = "the object of shared memory region 'r' has become too small"
    assert refused(regions, Place("r", 7, 0)) == f"input 'X': {text}"
    with pytest.raises(InvalidRequest, match=text):
        regions.write("output 'Y'", Place("r", 7, 0), memoryview(b"1234567"))
    assert (tmp_path / "object").stat().st_size == 10


def test_an_object_that_shrinks_while_it_is_read(
    regions: Regions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate = module.OpenRegion.locate

    def shrink_behind(self: module.OpenRegion, what: str, place: Place) -> int:
        start = locate(self, what, place)
        os.truncate(tmp_path / "object", 10)
        return start

    monkeypatch.setattr(module.OpenRegion, "locate", shrink_behind)
    with pytest.raises(InvalidRequest, match="has become too small"):
        regions.read("input 'X'", Place("r", 16, 0))
    assert regions.held_bytes == 0


def test_it_stays_in_its_own_object_when_the_key_is_taken_by_another(regions: Regions, tmp_path: Path) -> None:
    (tmp_path / "object").unlink()
    (tmp_path / "object").write_bytes(b"another's secret, which is long enough")
    assert bytes(regions.read("input 'X'", Place("r", 2, 0))) == bytes([4, 5])


def test_a_new_proxy_does_not_open_what_took_the_key(tmp_path: Path) -> None:
    registered = region(tmp_path)
    (tmp_path / "object").rename(tmp_path / "old")
    late = Regions(tmp_path)
    for content in (None, b"another's secret, which is long enough"):
        if content is not None:
            (tmp_path / "object").write_bytes(content)
        late.update([registered])
        assert "is not registered, or its object is gone" in refused(late, Place("r", 1, 0))
    (tmp_path / "old").rename(tmp_path / "object")
    late.update([registered])
    assert bytes(late.read("input 'X'", Place("r", 1, 0))) == b"\x04"
    late.close()


def test_a_region_that_is_lost_is_logged_once(tmp_path: Path) -> None:
    registered, other = region(tmp_path), region(tmp_path, size=8)
    (tmp_path / "object").rename(tmp_path / "old")
    made = Regions(tmp_path)

    def lines(*updates: list[Region]) -> int:
        with structlog.testing.capture_logs() as logged:
            for update in updates:
                made.update(update)
        return len(logged)

    assert lines([registered], [registered], [registered]) == 1
    assert lines([other], [other]) == 1, "another region of that name"
    assert lines([], [other], [other]) == 1, "registered anew"
    (tmp_path / "old").rename(tmp_path / "object")
    assert lines([other]) == 0
    assert bytes(made.read("input 'X'", Place("r", 1, 0))) == b"\x04"
    made.close()


def test_an_update_closes_what_is_gone_and_keeps_the_rest(tmp_path: Path) -> None:
    made = Regions(tmp_path)
    made.update([region(tmp_path, name="a"), region(tmp_path, name="b", key="other")])
    made.update([region(tmp_path, name="b", key="other"), region(tmp_path, name="a", offset=8)])
    assert bytes(made.read("input 'X'", Place("a", 1, 0))) == b"\x08"
    made.update([region(tmp_path, name="b", key="other")])
    assert open_files(tmp_path) == ["other"]
    made.close()
    assert open_files(tmp_path) == []


def test_what_requests_hold_is_bounded(tmp_path: Path) -> None:
    made = Regions(tmp_path, max_held_bytes=10)
    made.update([region(tmp_path)])
    with pytest.raises(QueueFull):
        made.read("input 'X'", Place("r", 11, 0))
    first = made.read("input 'X'", Place("r", 10, 0))
    assert made.held_bytes == 10
    with pytest.raises(QueueFull, match="input 'X': tensors in shared memory that wait for answers fill the room"):
        made.read("input 'X'", Place("r", 1, 0))
    del first
    assert made.held_bytes == 0
    small = [made.read("input 'X'", Place("r", 5, 0)) for _ in range(2)]
    assert made.held_bytes == sum(map(len, small))
    made.close()


def test_what_will_never_find_room_is_the_fault_of_the_request(tmp_path: Path) -> None:
    made = Regions(tmp_path, max_held_bytes=10)
    made.check_size(10)
    with pytest.raises(InvalidRequest, match="11 bytes of inputs in shared memory; at most 10 in one request"):
        made.check_size(11)


def test_a_tensor_for_which_there_is_no_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.OpenRegion, "locate", lambda *_: 0)
    made = Regions(tmp_path, max_held_bytes=1 << 63)
    made.update([region(tmp_path)])
    with pytest.raises(QueueFull, match="input 'X': there is no memory for a tensor of this size now"):
        made.read("input 'X'", Place("r", 1 << 62, 0))  # more than any machine can address
    assert made.held_bytes == 0
    made.close()


def test_what_the_system_refuses_is_an_error_of_the_request(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device", "secret")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(InvalidRequest) as caught:
        regions.read("input 'X'", Place("r", 1, 0))
    assert str(caught.value) == "input 'X': shared memory region 'r' cannot be read"
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(InvalidRequest) as caught:
        regions.write("output 'Y'", Place("r", 1, 0), memoryview(b"x"))
    assert str(caught.value) == "output 'Y': shared memory region 'r' cannot be written"


def test_large_tensors_are_moved_piece_by_piece(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    """One system call moves at most 2 GiB."""
    preadv, pwrite = os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda number, views, at: preadv(number, [views[0][:3]], at))
    monkeypatch.setattr(os, "pwrite", lambda number, view, at: pwrite(number, view[:3], at))
    regions.write("output 'Y'", Place("r", 16, 0), memoryview(b"0123456789abcdef"))
    assert bytes(regions.read("input 'X'", Place("r", 16, 0))) == b"0123456789abcdef"


def inputs(*places: Place | None) -> tuple[Input, ...]:
    return tuple(Input(f"X{index}", "UINT8", (1,), place) for index, place in enumerate(places))


def test_nothing_is_shared_by_most_requests(regions: Regions) -> None:
    assert Sharing.of(Head(inputs(None), ("Y",), True), regions) is None
    assert Sharing.of(Head(inputs(None), ("Y",), True, {"Y": 3}), regions) is None


def test_only_inputs_that_are_not_in_shared_memory_come_with_the_request(regions: Regions) -> None:
    sharing = Sharing.of(Head(inputs(None, Place("r", 1, 0), None, Place("r", 1, 1)), (), True), regions)
    assert sharing is not None
    assert list(map(bytes, sharing.complete([b"a", b"b"]))) == [b"a", b"\x04", b"b", b"\x05"]
    for raw in ([b"a"], [b"a", b"b", b"c"]):
        with pytest.raises(InvalidRequest, match=f"{len(raw)} raw_input_contents for 2 inputs that are not in shared"):
            sharing.complete(raw)


def test_outputs_without_a_place_are_refused_before_the_work(regions: Regions) -> None:
    sharing = Sharing.of(Head(inputs(None), ("Y",), True, {"Y": Place("gone", 1, 0)}), regions)
    assert sharing is not None
    with pytest.raises(InvalidRequest, match="output 'Y': shared memory region 'gone' is not registered"):
        sharing.complete([b"a"])


def test_a_shared_output_leaves_nothing_in_the_reply(regions: Regions) -> None:
    assert Shared("Y", Place("r", 4, 0), regions).encode(b"abcd") == b""
    assert bytes(regions.read("input 'X'", Place("r", 4, 0))) == b"abcd"


@given(st.integers(0, 40), st.integers(0, 40), st.binary(max_size=40))
def test_whatever_is_asked_only_the_region_changes(size: int, offset: int, tensor: bytes) -> None:
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        made = Regions(directory)
        made.update([region(directory)])
        path = directory / "object"
        try:
            made.write("output 'Y'", Place("r", size, offset), memoryview(tensor))
        except RequestError:
            assert path.read_bytes() == bytes(range(32))
        else:
            assert path.read_bytes()[4 + offset : 4 + offset + len(tensor)] == tensor
        content = path.read_bytes()
        assert (content[:4], content[20:]) == (bytes(range(4)), bytes(range(20, 32)))
        made.close()
