"""Tensors in shared memory: the regions that clients have registered, as one proxy sees them.

Read and written through file descriptors (see `gateway.sharedmemory`), within bounds that are checked each time:
against the region, and against what the object's size is now.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import structlog

from gateway.errors import InvalidRequest, QueueFull, RequestError
from gateway.oip.request import Head, Raw
from gateway.oip.reserved import Place
from gateway.routing.snapshot import Region
from gateway.sharedmemory import DIRECTORY, OFF, open_key

MAX_HELD_BYTES: Final = 1 << 30
"""Of tensors read for requests that have no answer yet: the transport, which counts what clients send, knows nothing of
them."""
PUSHBACK_MS: Final = 100
TENSORS_FULL: Final = "tensors in shared memory that wait for answers fill the room for them"
MEMORY_SHORT: Final = "there is no memory for a tensor of this size now"
MAX_NAME: Final = 128
"""Characters of a region's name in errors."""

log = structlog.get_logger(__name__)


class Regions:
    """Opened once per region; `update` closes those that are not registered any more. Reads and writes never wait."""

    def __init__(
        self, directory: Path = DIRECTORY, max_held_bytes: int = MAX_HELD_BYTES, *, allowed: bool = True
    ) -> None:
        """Without `allowed` nobody can register any, which errors then say."""
        self.held_bytes = 0
        self._directory = directory
        self._max_held_bytes = max_held_bytes
        self._allowed = allowed
        self._open: dict[str, OpenRegion] = {}
        self._lost: dict[str, Region] = {}
        """Registered, but not to be opened; the log has said so."""

    def update(self, regions: Iterable[Region]) -> None:
        """Makes these the registered ones. One that cannot be opened is tried again at the next update."""
        wanted = {region.name: region for region in regions}
        for name in [name for name, known in self._open.items() if wanted.get(name) != known.region]:
            self._open.pop(name).close()
        self._lost = {name: region for name, region in self._lost.items() if wanted.get(name) == region}
        for name, region in wanted.items():
            if name not in self._open:
                self._try_open(region)

    def _try_open(self, region: Region) -> None:
        """The control process has opened it, too; since then it may have been removed, or made anew."""
        try:
            self._open[region.name] = OpenRegion(region, open_key(region.key, self._directory))
        except (RequestError, OSError) as error:
            if region.name not in self._lost:
                log.warning("a registered region of shared memory cannot be opened any more", error=str(error))
            self._lost[region.name] = region
        else:
            self._lost.pop(region.name, None)

    def check_size(self, size: int) -> None:
        """Raises InvalidRequest when the tensors of one request, `size` bytes, will never find room."""
        if size > self._max_held_bytes:
            most = self._max_held_bytes
            raise InvalidRequest(f"{size} bytes of inputs in shared memory; at most {most} in one request")

    def check(self, what: str, place: Place) -> None:
        """Raises InvalidRequest when the place is not within a registered region. `what` begins the text."""
        self._find(what, place).locate(what, place)

    def read(self, what: str, place: Place) -> Raw:
        """The bytes at a place. Raises InvalidRequest, or QueueFull while too much is held."""
        region = self._find(what, place)
        start = region.locate(what, place)
        if self.held_bytes + place.size > self._max_held_bytes:
            raise QueueFull(f"{what}: {TENSORS_FULL}", PUSHBACK_MS)
        try:
            view = memoryview(Held(self, place.size))
        except MemoryError as error:
            raise QueueFull(f"{what}: {MEMORY_SHORT}", PUSHBACK_MS) from error
        done = 0
        while done < place.size:
            count = region.read_into(what, view[done:], start + done)
            if not count:
                raise region.shrunk(what)
            done += count
        return view

    def write(self, what: str, place: Place, tensor: memoryview) -> None:
        """Puts a tensor at a place. Raises InvalidRequest, also when it is too large for it."""
        if len(tensor) > place.size:
            raise InvalidRequest(
                f"{what}: it takes {len(tensor)} bytes, but 'shared_memory_byte_size' is {place.size}; offer as many"
            )
        region = self._find(what, place)
        start = region.locate(what, place)
        done = 0
        while done < len(tensor):
            done += region.write_from(what, tensor[done:], start + done)

    def close(self) -> None:
        """Closes all."""
        self.update(())

    def _find(self, what: str, place: Place) -> "OpenRegion":
        region = self._open.get(place.region)
        if region is None:
            if not self._allowed:
                raise InvalidRequest(f"{what}: {OFF}")
            name = place.region[:MAX_NAME]
            raise InvalidRequest(f"{what}: shared memory region '{name}' is not registered, or its object is gone")
        return region


class OpenRegion:
    """One region with its descriptor. Raises InvalidRequest when it is not the object that was registered."""

    __slots__ = ("_number", "region")

    def __init__(self, region: Region, number: int) -> None:
        self.region = region
        self._number = number
        status = os.fstat(number)
        if (status.st_dev, status.st_ino) != (region.device, region.inode):
            self.close()
            raise InvalidRequest(f"shared memory region '{region.name}': its key names another object by now")

    def close(self) -> None:
        os.close(self._number)

    def locate(self, what: str, place: Place) -> int:
        """Where in the object the place begins. Raises InvalidRequest when it is not wholly in the region now."""
        region = self.region
        if place.offset + place.size > region.byte_size:  # integers of any size: nothing wraps around
            raise InvalidRequest(
                f"{what}: offset {place.offset} and {place.size} bytes are more than region '{region.name}' has, "
                f"{region.byte_size} bytes"
            )
        start = region.offset + place.offset
        if start + place.size > os.fstat(self._number).st_size:
            raise self.shrunk(what)
        return start

    def shrunk(self, what: str) -> InvalidRequest:
        """The error for an object that has become smaller than its region."""
        return InvalidRequest(f"{what}: the object of shared memory region '{self.region.name}' has become too small")

    def read_into(self, what: str, view: memoryview, start: int) -> int:
        """How many bytes were read; 0 at the end of the object."""
        try:
            return os.preadv(self._number, [view], start)
        except OSError as error:
            raise InvalidRequest(f"{what}: shared memory region '{self.region.name}' cannot be read") from error

    def write_from(self, what: str, view: memoryview, start: int) -> int:
        """How many bytes were written, at least one."""
        try:
            return os.pwrite(self._number, view, start)
        except OSError as error:
            raise InvalidRequest(f"{what}: shared memory region '{self.region.name}' cannot be written") from error


class Shared:
    """An output that is put into shared memory; what stands for it in the reply is empty."""

    __slots__ = ("_place", "_regions", "_what")

    def __init__(self, name: str, place: Place, regions: Regions) -> None:
        self._what = f"output '{name}'"
        self._place = place
        self._regions = regions

    def check(self) -> None:
        """Raises InvalidRequest when the place is not there."""
        self._regions.check(self._what, self._place)

    def encode(self, tensor: Raw) -> bytes:
        """Puts it there. Raises InvalidRequest when it does not fit."""
        self._regions.write(self._what, self._place, memoryview(tensor))
        return b""


class Sharing:
    """Which tensors of requests with one head lie in shared memory. inputs: (what errors call it, its place)."""

    __slots__ = ("_inputs", "_outputs", "_regions", "_sent")

    def __init__(self, inputs: Sequence[tuple[str, Place | None]], outputs: Sequence[Shared], regions: Regions) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._regions = regions
        self._sent = sum(place is None for _, place in inputs)

    @classmethod
    def of(cls, head: Head, regions: Regions) -> Self | None:
        """None when all tensors travel with the request and the reply."""
        outputs = [Shared(name, wish, regions) for name, wish in head.wishes.items() if isinstance(wish, Place)]
        inputs = [(f"input '{tensor.name}'", tensor.place) for tensor in head.inputs]
        if not outputs and all(place is None for _, place in inputs):
            return None
        return cls(inputs, outputs, regions)

    def complete(self, raw: Sequence[Raw]) -> Sequence[Raw]:
        """The tensors that came and those in shared memory, in the order of the request's inputs.

        Raises InvalidRequest, also for outputs that could not be put anywhere: rather before the work than after it.
        """
        if len(raw) != self._sent:
            raise InvalidRequest(
                f"{len(raw)} raw_input_contents for {self._sent} inputs that are not in shared memory; send as many"
            )
        for output in self._outputs:
            output.check()
        sent = iter(raw)
        return [next(sent) if place is None else self._regions.read(what, place) for what, place in self._inputs]


class Held(bytearray):
    """Room for a tensor; counted as long as anybody looks at it. Raises MemoryError, then nothing is counted."""

    def __init__(self, regions: Regions, size: int) -> None:
        self._regions = regions  # first: it is deleted, too, when there is no memory
        super().__init__(size)
        regions.held_bytes += size

    def __del__(self) -> None:
        self._regions.held_bytes -= len(self)
