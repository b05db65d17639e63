"""System shared memory: which regions clients have registered. They hold for all proxies, until the gateway ends.

What is registered is published with the snapshot before the client hears OK, so that its next request finds it at
whichever proxy. Who may register may have the gateway read and write any object that the gateway's user may: hence off
until an operator says otherwise.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.controlplane.triton.requests import read
from gateway.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound, TooMany
from gateway.routing.link import Errand
from gateway.routing.snapshot import Region
from gateway.sharedmemory import DIRECTORY, OFF, open_key
from protos import inference_pb2 as pb

MAX_REGIONS: Final = 256
MAX_NAME: Final = 128
"""Characters."""

Publish = Callable[[tuple[Region, ...]], Awaitable[None]]

log = structlog.get_logger()


class Regions:
    """The table, and the errands that change and read it; one change after the other."""

    def __init__(self, publish: Publish, *, allowed: bool, directory: Path = DIRECTORY) -> None:
        """`publish(regions)` returns when every proxy knows these and no others, or raises and has changed nothing."""
        self._publish = publish
        self._allowed = allowed
        self._directory = directory
        self._table: dict[str, Region] = {}
        self._changing = asyncio.Lock()

    async def register(self, errand: Errand) -> bytes:
        """Raises Forbidden, InvalidRequest, AlreadyExists, TooMany, or NotReady when a proxy is late."""
        self._check_allowed()
        request = read(pb.SystemSharedMemoryRegisterRequest, errand.message)
        async with self._changing:
            self._check_name(request.name)
            await self._change({**self._table, request.name: self._look(request)})
        log.info("shared memory registered", region=request.name, bytes=request.byte_size, peer=errand.peer)
        return pb.SystemSharedMemoryRegisterResponse().SerializeToString()

    async def unregister(self, errand: Errand) -> bytes:
        """Forgets one region, or all for the name "". What nobody registered is forgotten already.

        Raises Forbidden, or NotReady when a proxy is late; then none is forgotten.
        """
        self._check_allowed()
        name = read(pb.SystemSharedMemoryUnregisterRequest, errand.message).name
        async with self._changing:
            gone = [known for known in self._table if name in ("", known)]
            if gone:
                await self._change({known: region for known, region in self._table.items() if known not in gone})
                log.info("shared memory unregistered", regions=gone, peer=errand.peer)
        return pb.SystemSharedMemoryUnregisterResponse().SerializeToString()

    async def status(self, errand: Errand) -> bytes:
        """One region, or all for the name "". Raises Forbidden or NotFound."""
        self._check_allowed()
        name = read(pb.SystemSharedMemoryStatusRequest, errand.message).name
        if name and name not in self._table:
            raise NotFound(f"shared memory region '{name[:MAX_NAME]}' is not registered")
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._table.values():
            if name in ("", region.name):
                described = response.regions[region.name]
                described.name, described.key = region.name, region.key
                described.offset, described.byte_size = region.offset, region.byte_size
        return response.SerializeToString()

    async def _change(self, table: dict[str, Region]) -> None:
        """The table changes once all proxies know; what cannot be told to all is not registered, and not forgotten."""
        await self._publish(tuple(table.values()))
        self._table = table

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise Forbidden(OFF)

    def _check_name(self, name: str) -> None:
        if not 0 < len(name) <= MAX_NAME:
            raise InvalidRequest(f"a region of shared memory needs a name of at most {MAX_NAME} characters")
        if not name.isprintable():  # it goes into the log, which people read in terminals
            raise InvalidRequest(f"the name {name!r} of a region holds a character that cannot be printed")
        if name in self._table:
            raise AlreadyExists(f"shared memory region '{name}' is registered already; unregister it first")
        if len(self._table) >= MAX_REGIONS:
            raise TooMany(f"{MAX_REGIONS} regions of shared memory are registered; unregister some")

    def _look(self, request: pb.SystemSharedMemoryRegisterRequest) -> Region:
        number = open_key(request.key, self._directory)
        try:
            status = os.fstat(number)
        finally:
            os.close(number)
        if not request.byte_size or request.offset + request.byte_size > status.st_size:  # they do not wrap around
            raise InvalidRequest(
                f"shared memory key {request.key!r}: offset {request.offset} and byte_size {request.byte_size} are not "
                "within the object, or empty"
            )
        return Region(
            *(request.name, request.key, request.offset, request.byte_size), device=status.st_dev, inode=status.st_ino
        )
