import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from gateway.controlplane.triton.regions import MAX_NAME, MAX_REGIONS, Regions
from gateway.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound, NotReady, RequestError, TooMany
from gateway.routing.link import Errand
from gateway.routing.snapshot import Region
from protos import inference_pb2 as pb

SIZE = 32


class Bench:
    """A table over one object of 32 bytes; remembers what was published."""

    def __init__(self, directory: Path, *, allowed: bool = True) -> None:
        (directory / "object").write_bytes(bytes(SIZE))
        self.published: list[tuple[Region, ...]] = []
        self.late = False
        self.regions = Regions(self._publish, allowed=allowed, directory=directory)

    async def _publish(self, regions: tuple[Region, ...]) -> None:
        await asyncio.sleep(0)
        if self.late:
            raise NotReady("proxy 1 does not report in time")
        self.published.append(regions)

    async def register(self, name: str = "r", key: str = "/object", offset: int = 0, byte_size: int = SIZE) -> None:
        await self.regions.register(
            errand(pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=byte_size))
        )

    async def unregister(self, name: str = "") -> None:
        await self.regions.unregister(errand(pb.SystemSharedMemoryUnregisterRequest(name=name)))

    async def status(self, name: str = "") -> pb.SystemSharedMemoryStatusResponse:
        answer = await self.regions.status(errand(pb.SystemSharedMemoryStatusRequest(name=name)))
        return pb.SystemSharedMemoryStatusResponse.FromString(answer)


def errand(message: Message) -> Errand:
    return Errand(1, "", message.SerializeToString(), "10.0.0.7")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def refused(bench: Bench, kind: type[RequestError], **asked: Any) -> str:
    before = list(bench.published)
    with pytest.raises(kind) as caught:
        await bench.register(**asked)
    assert bench.published == before
    return str(caught.value)


async def test_a_region_is_published_before_its_client_hears_of_it(bench: Bench, tmp_path: Path) -> None:
    await bench.register(offset=8, byte_size=24)
    status = (tmp_path / "object").stat()
    assert bench.published == [(Region("r", "/object", 8, 24, status.st_dev, status.st_ino),)]
    await bench.register("s", "object")
    assert [region.name for region in bench.published[-1]] == ["r", "s"]


async def test_what_is_registered_can_be_asked(bench: Bench) -> None:
    assert not (await bench.status()).regions
    await bench.register(offset=8, byte_size=24)
    await bench.register("s", "object")
    assert set((await bench.status()).regions) == {"r", "s"}
    (described,) = (await bench.status("r")).regions.values()
    assert (described.name, described.key, described.offset, described.byte_size) == ("r", "/object", 8, 24)
    with pytest.raises(NotFound, match="'t' is not registered"):
        await bench.status("t")


async def test_regions_are_forgotten_one_by_one_or_all(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        await bench.register(name)
    await bench.unregister("b")
    assert [region.name for region in bench.published[-1]] == ["a", "c"]
    before = len(bench.published)
    await bench.unregister("b")
    assert len(bench.published) == before, "there was nothing to tell"
    await bench.unregister()
    assert bench.published[-1] == ()
    await bench.register("b")


async def test_a_change_that_a_proxy_does_not_take_in_is_none(bench: Bench) -> None:
    await bench.register("a")
    bench.late = True
    with pytest.raises(NotReady):
        await bench.register("b")
    with pytest.raises(NotReady):
        await bench.unregister("a")
    assert set((await bench.status()).regions) == {"a"}
    bench.late = False
    await bench.register("b")
    await bench.unregister("a")
    assert [region.name for region in bench.published[-1]] == ["b"]


async def test_a_name_is_taken_once(bench: Bench) -> None:
    done = await asyncio.gather(bench.register(), bench.register(), return_exceptions=True)
    assert [type(error) for error in done] == [type(None), AlreadyExists]
    assert "'r' is registered already" in await refused(bench, AlreadyExists)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1)])
async def test_a_name_is_needed(bench: Bench, name: str) -> None:
    assert f"a name of at most {MAX_NAME} characters" in await refused(bench, InvalidRequest, name=name)


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e"])
async def test_a_name_can_be_printed(bench: Bench, name: str) -> None:
    text = await refused(bench, InvalidRequest, name=name)
    assert text == f"the name {name!r} of a region holds a character that cannot be printed"
    assert text.isprintable()
    await bench.register("Größe 1")


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (0, 0),
        (0, SIZE + 1),
        (SIZE, 1),
        (1, SIZE),
        (2**64 - 1, 1),
        (1, 2**64 - 1),
        (2**63, 2**63),
        (2**64 - 16, 32),
    ],
)
async def test_a_region_lies_within_its_object(bench: Bench, offset: int, byte_size: int) -> None:
    text = await refused(bench, InvalidRequest, offset=offset, byte_size=byte_size)
    assert text == (
        f"shared memory key '/object': offset {offset} and byte_size {byte_size} are not within the object, or empty"
    )
    assert str(SIZE) not in text.replace(str(byte_size), "").replace(str(offset), ""), "its size is nobody's business"


@pytest.mark.parametrize(
    "key", ["../object", "/a/object", "", "missing", "sem.x", "triton_python_backend_shm_region_0"]
)
async def test_a_key_names_an_object_for_clients(bench: Bench, key: str) -> None:
    assert await refused(bench, InvalidRequest, key=key)


async def test_there_are_only_so_many(bench: Bench) -> None:
    for number in range(MAX_REGIONS):
        await bench.register(f"r{number}")
    assert f"{MAX_REGIONS} regions" in await refused(bench, TooMany, name="one more")
    await bench.unregister("r0")
    await bench.register("one more")


async def test_nothing_is_shared_unless_the_operator_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, allowed=False)
    for call in (bench.register(), bench.unregister(), bench.status()):
        with pytest.raises(Forbidden, match=r"set shared_memory = true in \[triton\]"):
            await call
    assert bench.published == []


async def test_what_cannot_be_read_is_refused(bench: Bench) -> None:
    for method in (bench.regions.register, bench.regions.unregister, bench.regions.status):
        with pytest.raises(InvalidRequest, match="the message is not a SystemSharedMemory"):
            await method(Errand(1, "", b"\xff"))


async def test_the_owner_of_an_object_may_replace_it(bench: Bench, tmp_path: Path) -> None:
    """Each registration names the object it found."""
    await bench.register()
    (tmp_path / "object").rename(tmp_path / "old")
    (tmp_path / "object").write_bytes(bytes(SIZE))
    await bench.register("s")
    first, second = bench.published[-1]
    assert first.inode != second.inode
