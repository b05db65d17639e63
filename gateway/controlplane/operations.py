"""Work that goes on after the call that asked for it: started once, looked at, waited for, cancelled, forgotten.

Operations end with the process, and so does what they do: a version that one of them loads is loaded here and now.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
from google.protobuf.message import Message

from gateway.controlplane.tasks import Bell, Tasks
from gateway.errors import InvalidRequest, NotFound, QueueFull, Refused, RequestError

MAX_RUNNING: Final = 64
MAX_DONE: Final = 1_000
"""So many are remembered, the newest; none longer than KEPT_MS."""
KEPT_MS: Final = 3_600_000
PUSHBACK_MS: Final = 5_000
MAX_WAITS = 64
"""Whoever waits holds one of the calls there are."""

Work = Callable[[], Awaitable[Message]]

log = structlog.get_logger()


class Asked(msgspec.Struct, frozen=True):
    """What an operation is to do, and for whom."""

    verb: str
    target: str
    """A resource name."""
    detail: str = ""
    """What else tells it from other operations on the same thing."""


class Operation:
    """One piece of work. `error` and `response` are None until it is done; then one of them is not."""

    def __init__(self, asked: Asked, actor: str, request_id: str, created_ms: int) -> None:
        self.key = uuid.uuid4().hex
        self.asked = asked
        self.actor = actor
        self.request_id = request_id
        self.created_ms = created_ms
        self.ended_ms = 0
        self.response: Message | None = None
        self.error: Exception | None = None
        """RequestError, Cancelled, or what nobody expected and the log tells."""
        self.task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        return bool(self.ended_ms)


class Cancelled(Exception):
    """Somebody ended the operation, or the gateway stops."""


class Operations:
    """All operations of this gateway, oldest first."""

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        """`clock_ms` gives milliseconds since the epoch."""
        self._clock_ms = clock_ms
        self._known: dict[str, Operation] = {}
        self._tasks = Tasks()
        self._bell = Bell()
        self._waits = 0

    async def close(self) -> None:
        """Cancels what is running; whoever waits is told."""
        await self._tasks.close()

    def start(self, asked: Asked, work: Work, actor: str, request_id: str = "") -> Operation:
        """Begins the work, which gives the response.

        The same `request_id` again gets the same operation; empty: no such memory. Raises InvalidRequest if that was
        for something else, and QueueFull.
        """
        self._forget()
        for known in self._known.values():
            if request_id and known.request_id == request_id:
                if known.asked != asked:
                    said = f"request id {request_id} was used for another operation; take a new one"
                    raise InvalidRequest(said, "request_id")
                return known
        if sum(not known.done for known in self._known.values()) >= MAX_RUNNING:
            raise QueueFull(f"{MAX_RUNNING} operations are running; wait for one or cancel one", PUSHBACK_MS)
        started = Operation(asked, actor, request_id, self._clock_ms())
        self._known[started.key] = started
        started.task = self._tasks.start(self._run(started, work), f"{asked.verb} {asked.target}")
        started.task.add_done_callback(lambda _: self._ended(started))
        return started

    def get(self, key: str) -> Operation:
        """Raises NotFound."""
        self._forget()
        if key not in self._known:
            raise NotFound(
                "there is no such operation: it is forgotten an hour after its end, or when the gateway ends"
            )
        return self._known[key]

    def list(self) -> list[Operation]:
        """All that are remembered, by key."""
        self._forget()
        return sorted(self._known.values(), key=lambda operation: operation.key)

    async def wait(self, key: str, timeout_s: float) -> Operation:
        """Returns when it is done, or after `timeout_s`. Raises NotFound and QueueFull."""
        found = self.get(key)
        if self._waits >= MAX_WAITS:
            raise QueueFull(f"{MAX_WAITS} clients wait for operations already; ask again later", PUSHBACK_MS)
        self._waits += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.until(lambda: found.done)
        except TimeoutError:
            pass
        finally:
            self._waits -= 1
        return found

    def cancel(self, key: str) -> None:
        """Ends it, unless it is done. What it had asked for may still come about. Raises NotFound."""
        found = self.get(key)
        if found.task is not None and not found.done:
            found.task.cancel()

    def delete(self, key: str) -> None:
        """Forgets it. Raises NotFound, and Refused while it is running."""
        if not self.get(key).done:
            raise Refused("the operation is running: wait for it or cancel it")
        del self._known[key]

    async def _run(self, operation: Operation, work: Work) -> None:
        asked = operation.asked
        log.info("operation started", verb=asked.verb, target=asked.target, actor=operation.actor)
        try:
            operation.response = await work()
        except RequestError as error:
            operation.error = error
        except Exception as error:
            operation.error = error
            log.exception("operation failed", verb=asked.verb, target=asked.target)

    def _ended(self, operation: Operation) -> None:
        if operation.response is None and operation.error is None:
            operation.error = Cancelled("cancelled")
        operation.ended_ms = self._clock_ms()
        self._bell.ring()

    def _forget(self) -> None:
        done = [operation for operation in self._known.values() if operation.done]
        since_ms = self._clock_ms() - KEPT_MS
        for number, operation in enumerate(sorted(done, key=lambda one: one.ended_ms, reverse=True)):
            if number >= MAX_DONE or operation.ended_ms < since_ms:
                del self._known[operation.key]
