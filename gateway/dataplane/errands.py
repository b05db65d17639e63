"""Calls that one proxy cannot answer alone: sent to the control process, answered when it answers.

Rare by nature (statistics, repository, settings), and bounded: whoever asks too much at once is refused, and nobody
waits for a control process that is gone or keeps silent. A client that leaves does not end what it asked for.
"""

from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple

from gateway.dataplane.refusal import refuse
from gateway.errors import Code, InvalidRequest, Late, NotReady, QueueFull
from gateway.oip import status
from gateway.routing import link
from gateway.transport.call import NO_TRAILERS, Call, Handler, Trailers

MAX_ERRANDS: Final = 64
"""Without an answer of the control process yet, of one proxy; whether their callers still wait does not matter."""
PUSHBACK_MS: Final = 1000
MAX_MESSAGE_BYTES: Final = 1 << 20
TOO_LARGE: Final = f"at most {MAX_MESSAGE_BYTES} are taken, and files of models go into the models directory"
QUICK_S: Final = 10.0
"""How long an answer may take that needs no more than a look."""
LONG_S: Final = 300.0
"""How long one may take that waits for models to load."""
GONE: Final = "the control process is gone; inference goes on, this comes back with it"


class _Waiting(NamedTuple):
    call: Call
    until_s: float


class Errands:
    """The calls of this proxy that wait for the control process."""

    def __init__(self, send: Callable[[link.Errand], None]) -> None:
        """`send` puts an errand on the link."""
        self._send = send
        self._numbers = count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._given_up: set[int] = set()
        """Nobody waits for these any more, but the control process works on them until it answers."""
        self._gone = False

    def handler(self, kind: str, limit_s: float = QUICK_S) -> Handler:
        """A handler of calls that asks the control process, and gives up after `limit_s`."""

        def handle(call: Call) -> None:
            self._ask(call, kind, limit_s)

        return handle

    def _ask(self, call: Call, kind: str, limit_s: float) -> None:
        if len(call.message) > MAX_MESSAGE_BYTES:
            refuse(call, InvalidRequest(f"{kind}: {len(call.message)} bytes; {TOO_LARGE}"))
            return
        if self._gone:
            refuse(call, NotReady(GONE))
            return
        if len(self._waiting) + len(self._given_up) >= MAX_ERRANDS:
            refuse(call, QueueFull(f"{MAX_ERRANDS} questions wait for the control process already", PUSHBACK_MS))
            return
        number = next(self._numbers)
        self._waiting[number] = _Waiting(call, call.arrived_s + limit_s)
        self._send(link.Errand(number, kind, bytes(call.message), call.peer.identity or call.peer.address))

    def done(self, answer: link.ErrandDone) -> None:
        """Answers the call. Nothing happens when it was given up meanwhile."""
        self._given_up.discard(answer.number)
        waiting = self._waiting.pop(answer.number, None)
        if waiting is None:
            return
        if answer.code == Code.OK:
            waiting.call.reply(answer.message, NO_TRAILERS)
        else:
            waiting.call.fail(Code(answer.code), answer.text, Trailers((status.DETAILS, answer.details)))

    def sweep(self, now_s: float) -> None:
        """Gives up what waits too long and forgets callers that left; called a few times a second."""
        for number, (call, until_s) in list(self._waiting.items()):
            if call.closed or call.deadline_s <= now_s:
                self._give_up(number)
                refuse(call, Late("the deadline passed before the control process answered"))
            elif until_s <= now_s:
                self._give_up(number)
                refuse(call, NotReady("the control process does not answer; the change, if it is one, may yet be made"))

    def _give_up(self, number: int) -> None:
        del self._waiting[number]
        self._given_up.add(number)

    def gone(self) -> None:
        """The control process is gone: nobody will answer any more."""
        self._gone = True
        self._given_up.clear()
        waiting, self._waiting = self._waiting, {}
        for call, _ in waiting.values():
            refuse(call, NotReady(GONE))
