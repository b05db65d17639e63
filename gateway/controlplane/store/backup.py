"""What a store holds as JSON lines, the same for every store: what `dump` gives and `load` takes. Pure.

The first line says the format, the last one how many there are before it and the SHA-256 (hex) of their bytes. Between
them: tokens, answered requests, every revision model by model, every audit event. A model's release is its newest
revision.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

import msgspec

from gateway.controlplane.audit import GENESIS, AuditEvent, verify
from gateway.controlplane.store import Token
from gateway.errors import InvalidRequest
from gateway.routing.snapshot import Release

FORMAT: Final = 1


class Line(msgspec.Struct, frozen=True, tag_field="line"):
    """One line; its type is its `line`."""


class Begin(Line, frozen=True, tag="cutover backup"):
    """The first line."""

    format: int


class Answered(Line, frozen=True, tag="request"):
    """A request id that is remembered, and what it was answered."""

    request_id: str
    fingerprint: str
    time_ms: int
    release: Release


class Revision(Line, frozen=True, tag="revision"):
    """A release as it was, or is."""

    release: Release


class Event(Line, frozen=True, tag="event"):
    """A link of the audit chain."""

    event: AuditEvent


class End(Line, frozen=True, tag="end"):
    """The last line."""

    lines: int
    sha256: str


Record = Token | Answered | Revision | Event
_decoder: Final = msgspec.json.Decoder(Begin | Record | End)


async def written(records: AsyncIterator[Record]) -> AsyncIterator[bytes]:
    """The lines, each with its newline."""
    digest, lines = hashlib.sha256(), 1
    yield _encoded(Begin(FORMAT), digest)
    async for record in records:
        yield _encoded(record, digest)
        lines += 1
    yield _encoded(End(lines, digest.hexdigest()), digest)


def read(lines: Iterable[bytes]) -> Iterator[Record]:
    """The records of a whole backup. Raises InvalidRequest at the first line that is wrong, which may be the last."""
    digest, number, ended = hashlib.sha256(), 0, False
    previous, events = GENESIS, 0
    for number, line in enumerate(lines, 1):
        record = _decoded(line, number)
        if ended or isinstance(record, Begin) != (number == 1):
            raise InvalidRequest(f"line {number} of the backup is not in its place: take another copy")
        if isinstance(record, End):
            if record != End(number - 1, digest.hexdigest()):
                raise InvalidRequest(
                    "the backup was changed or has lost lines: its hash does not match; take another copy"
                )
            ended = True
        elif isinstance(record, Begin):
            _check_format(record)
        else:
            if isinstance(record, Event):
                wrong = verify([record.event], previous, events := events + 1)
                if wrong:
                    raise InvalidRequest(f"line {number} of the backup: {wrong}")
                previous = record.event.hash
            yield record
        digest.update(line)
    if not ended:
        raise InvalidRequest(f"the backup ends after line {number}, before it is whole: take another copy")


def _encoded(line: Begin | Record | End, digest: "hashlib._Hash") -> bytes:
    encoded = msgspec.json.encode(line) + b"\n"
    digest.update(encoded)
    return encoded


def _decoded(line: bytes, number: int) -> Begin | Record | End:
    try:
        decoded: Begin | Record | End = _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"line {number} is not one of a backup: {error}") from error
    return decoded


def _check_format(begin: Begin) -> None:
    if begin.format != FORMAT:
        raise InvalidRequest(
            f"the backup was written by a newer Cutover (format {begin.format}, this one knows {FORMAT})"
        )
