"""What happened when one frame met both servers, and a name for it where they differ."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hpack import HPACKError

from gateway.transport.h2.frames import PADDED, PRIORITY, FrameType
from tests.properties.reference.ours import Verdict
from tests.properties.reference.theirs import Pairs, Theirs
from tests.unit.gateway.transport.h2.peer import Frame


@dataclass(frozen=True)
class Meeting:
    """One frame, the connection it came to, and what both servers made of it."""

    frame: Frame
    before: Theirs
    ours: Verdict
    theirs: Verdict
    settled: bool
    """SETTINGS have come before."""
    leaving: bool
    """GOAWAY has come before."""
    told: bool
    """We have reset its stream before."""
    interrupts: bool
    """A header block is not complete, and it does not continue it."""
    first: Frame | None
    """The HEADERS frame of the header block it belongs to; None: of none, or it came in between."""
    block: bytes | None
    """The header block it completes."""

    @property
    def phase(self) -> str:
        """The state its stream was in."""
        return self.before.phase(self.frame.stream_id)

    @property
    def ended(self) -> bool:
        """The request ends with it."""
        return bool((self.first or self.frame).flags & 1) and (
            self.block is not None or self.frame.kind == FrameType.DATA
        )

    @cached_property
    def pairs(self) -> Pairs | None:
        """The header list it completes; None: no HPACK."""
        try:
            found = copy.deepcopy(self.before.h2.decoder).decode(self.block or b"", raw=True)
        except HPACKError:
            return None
        return [(bytes(name), bytes(value)) for name, value in found]

    @property
    def dependency(self) -> int | None:
        """The stream its priority fields name."""
        frame = self.first or self.frame
        start = int(bool(frame.flags & PADDED)) if frame.kind == FrameType.HEADERS else 0
        if frame.kind == FrameType.PRIORITY or (frame.kind == FrameType.HEADERS and frame.flags & PRIORITY):
            return int.from_bytes(frame.payload[start : start + 4], "big") & 0x7FFF_FFFF
        return None

    def we_said(self, *verdicts: tuple[str, int]) -> bool:
        return any(self.ours.agrees(Verdict(*verdict)) for verdict in verdicts)

    def they_said(self, *verdicts: tuple[str, int]) -> bool:
        return any(self.theirs.agrees(Verdict(*verdict)) for verdict in verdicts)

    def said(self, ours: tuple[str, int], theirs: tuple[str, int]) -> bool:
        """Whether these are the two verdicts."""
        return self.we_said(ours) and self.they_said(theirs)


Retry = Callable[[Meeting, Theirs], Frame | None]


@dataclass(frozen=True)
class Difference:
    """A situation in which we do something else than the reference, and may."""

    why: str
    """In words, with the section of RFC 9113 that allows it."""
    is_it: Callable[[Meeting], bool]
    retry: Retry | None = None
    """What the reference is to be given instead, so that it follows us; it may be changed on the way."""


def field_block(frame: Frame) -> bytes:
    """A HEADERS payload without padding and priority fields, as far as it has them."""
    start, end = 0, len(frame.payload)
    if frame.flags & PADDED and frame.payload:
        start, end = 1, end - frame.payload[0]
    if frame.flags & PRIORITY:
        start += 5
    return frame.payload[start:end]
