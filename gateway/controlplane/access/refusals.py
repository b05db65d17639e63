"""How refusals come into the audit log without filling the disk: the first of a caller at once, those that follow
within a minute as one event that counts them. Pure: `now_ms` is an argument.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.controlplane.audit import REFUSAL, Draft

WINDOW_MS: Final = 60_000
MAX_CALLERS: Final = 20
"""Callers that are told apart within a minute: addresses and certificates may be many."""
OTHERS: Final = "others"
"""The caller whose refusals are those of all beyond that number."""
MAX_TEXT_CHARS: Final = 300


class Refusal(msgspec.Struct, frozen=True):
    """One call that was refused. `verb`: what was asked for, as changes have it."""

    time_ms: int
    caller: str
    verb: str
    model: str
    why: str


class _Window(msgspec.Struct):
    """The minute that a caller's first refusal has begun, and what followed it."""

    begun_ms: int
    repeats: int = 0
    last: Refusal | None = None


class Refusals:
    """Counts refusals; gives the events that are to be written."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def refused(self, refusal: Refusal) -> Draft | None:
        """Takes a refusal in. Its event, if it is the first of its caller's minute."""
        caller = refusal.caller
        if caller not in self._windows and len(self._windows) >= MAX_CALLERS:
            caller = OTHERS
        window = self._windows.get(caller)
        if window is None:
            self._windows[caller] = _Window(refusal.time_ms)
            return _event(refusal, refusal.caller, 0)
        window.repeats += 1
        window.last = refusal
        return None

    def due(self, now_ms: int) -> Iterator[Draft]:
        """Ends the minutes that are over, also by a clock that was set back: an event for each with repeats."""
        for caller, window in list(self._windows.items()):
            if not 0 <= now_ms - window.begun_ms < WINDOW_MS:
                del self._windows[caller]
                if window.last is not None:
                    yield _event(window.last, caller, window.repeats)

    def rest(self) -> Iterator[Draft]:
        """Ends all minutes."""
        windows, self._windows = self._windows, {}
        for caller, window in windows.items():
            if window.last is not None:
                yield _event(window.last, caller, window.repeats)

    @property
    def next_ms(self) -> int | None:
        """When the first minute is over; None: there is none."""
        return min((window.begun_ms + WINDOW_MS for window in self._windows.values()), default=None)


def _event(refusal: Refusal, caller: str, repeats: int) -> Draft:
    """Of a caller's words only what every store can keep: a zero byte must not be the way round the log."""
    why = "".join(char if char.isprintable() else " " for char in refusal.why[:MAX_TEXT_CHARS])
    times = "1 more refusal" if repeats == 1 else f"{repeats} more refusals"
    return Draft(
        time_ms=refusal.time_ms,
        actor=caller[:MAX_TEXT_CHARS],
        verb=refusal.verb,
        model=refusal.model,
        revision=0,
        reason=f"{times} within a minute, the last: {why}" if repeats else why,
        request_id="",
        before="",
        after="",
        kind=REFUSAL,
    )
