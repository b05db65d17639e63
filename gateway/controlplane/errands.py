"""What proxies ask on behalf of clients (`link.Errand`): a table from kind to handler.

A handler is given the errand and returns the encoded response; a RequestError it raises becomes the status of the
client's call, anything else INTERNAL and a line in the log.
"""

from collections.abc import Awaitable, Callable

import structlog

from gateway.controlplane.tasks import Tasks
from gateway.errors import InferenceFailed, NotReady, RequestError
from gateway.oip import status
from gateway.routing import link

Handle = Callable[[link.Errand], Awaitable[bytes]]
Answer = Callable[[link.ErrandDone], None]

log = structlog.get_logger()


class Errands:
    """Runs each errand beside the others. What was begun is carried out, whatever becomes of proxy and caller."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handle] = {}
        self._tasks = Tasks()

    def add(self, kind: str, handle: Handle) -> None:
        """From now on errands of this kind are answered by `handle`."""
        self._handlers[kind] = handle

    def take(self, errand: link.Errand, answer: Answer) -> None:
        """Begins the errand; `answer` is called once, unless everything ends before."""
        self._tasks.start(self._run(errand, answer), f"errand {errand.kind}")

    async def close(self) -> None:
        """Ends the errands under way; their callers hear it from their proxies."""
        await self._tasks.close()

    async def _run(self, errand: link.Errand, answer: Answer) -> None:
        try:
            handle = self._handlers.get(errand.kind)
            if handle is None:
                raise NotReady(f"the gateway does not answer {errand.kind} yet; it is starting")
            message = await handle(errand)
        except RequestError as error:
            answer(_refusal(errand, error))
        except Exception:  # the caller must not wait for an answer that never comes
            log.exception("errand failed", kind=errand.kind)
            answer(_refusal(errand, InferenceFailed("internal error, see the log of the gateway")))
        else:
            answer(link.ErrandDone(errand.number, message))


def _refusal(errand: link.Errand, error: RequestError) -> link.ErrandDone:
    return link.ErrandDone(errand.number, b"", error.code, status.cut(str(error)), status.details(error))
