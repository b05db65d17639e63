"""Answers frames: bytes in, pieces of bytes out. No socket."""

from collections.abc import Sequence
from time import monotonic, perf_counter_ns
from typing import Any

from workers.compare import Given, compare
from workers.errors import BadFrame, Cancelled, FrameError, Late, ModelFailed
from workers.sections import Reader, Section, Writer
from workers.session import Model
from workers.slots import Slots
from workers.tensors import Array, Bytes
from workers.warmup import WarmUp
from workers.wire import (
    BEGUN,
    CANCEL,
    COMPARE,
    COMPARED,
    COMPARISON,
    ERROR,
    HEADER,
    KIND_AT,
    PLACE,
    RUN,
    SECTION,
    SLOT,
    TELL,
    is_late,
)

MAX_MICROS = 0xFFFF_FFFF
_TOO_LARGE = 0
"""A kind that is never on the wire."""


def frame_bytes(buffer: Bytes, start: int) -> int:
    """The size of the frame whose HEADER is at buffer[start:], HEADER included. Raises BadFrame."""
    length, _, kind, flags, slot, _ = HEADER.unpack_from(buffer, start)
    if kind == CANCEL:
        if length or flags or slot:
            raise BadFrame("a malformed frame header")
        return HEADER.size
    if kind not in (RUN, COMPARE):
        raise BadFrame(f"a frame of unknown kind {kind}")
    sound = length == PLACE.size and slot if flags & SLOT else length >= SECTION.size
    if not sound or flags & ~(SLOT | TELL) or (flags & TELL and kind != RUN):
        raise BadFrame("a malformed frame header")
    return HEADER.size + int(length)


def cancel(buffer: bytearray, start: int) -> None:
    """Makes the RUN frame at buffer[start:] one that `answer` does not run; a COMPARE stays what it is."""
    if buffer[start + KIND_AT] == RUN:
        buffer[start + KIND_AT] = CANCEL


def refuse(buffer: bytearray, start: int) -> None:
    """Makes the frame whose HEADER is at buffer[start:] one that `answer` refuses, without looking at what follows."""
    buffer[start + KIND_AT] = _TOO_LARGE


def begun(buffer: Bytes, start: int) -> list[bytes]:
    """What is to be sent before the frame at buffer[start:] is run, if anything."""
    _, batch, kind, flags, _, _ = HEADER.unpack_from(buffer, start)
    return [HEADER.pack(0, batch, BEGUN, 0, 0, 0)] if kind == RUN and flags & TELL else []


class Service:
    """Runs one model for frames."""

    def __init__(self, model: Model, warm_up: WarmUp) -> None:
        self._model = model
        self._outputs = warm_up.outputs
        self._batched = warm_up.batched
        expected = {tensor.name: tensor.datatype for tensor in model.inputs}
        self._inputs = Reader(batched=self._batched, expected=expected)
        self._production = Reader(batched=self._batched, expected=None)
        self._writer = Writer(self._outputs, batched=self._batched)

    def answer(self, buffer: Bytes, start: int, stop: int, slots: Slots | None = None) -> Sequence[Any]:
        """The answer to the frame in buffer[start:stop], as pieces to be sent one behind the other.

        slots: the memory its sender shares.
        Raises BadFrame when the bytes make no sense; anything else that goes wrong becomes an ERROR frame.
        """
        length, batch, kind, flags, slot, deadline_ms = HEADER.unpack_from(buffer, start)
        start += HEADER.size
        try:
            if kind == _TOO_LARGE:
                raise ModelFailed(f"the model failed: out of memory: {length} bytes of input")
            if kind == CANCEL:
                raise Cancelled("nobody waits for the answer")
            if deadline_ms and is_late(deadline_ms, monotonic()):
                raise Late("the deadline passed before the request was run")
            if slot:
                if slots is None:
                    raise BadFrame("a slot, but no memory is shared")
                slots.check(slot)
                if flags & SLOT:
                    buffer, start, stop = slots.sections(slot, buffer, start, stop)
            section = self._inputs.read(buffer, start, stop)
            if kind == COMPARE:
                return self._compare(batch, section, buffer, stop)
            if section.end != stop:
                raise BadFrame(f"{stop - section.end} bytes behind the last tensor")
            arrays, micros = self._run(section)
            pieces = self._writer.result(batch, section.rows, arrays, micros)
            return slots.place(slot, pieces) if slots is not None and slot else pieces
        except FrameError as error:
            return error_frame(batch, error)
        except BadFrame:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one frame does must not end the process
            return error_frame(batch, FrameError(f"the worker failed: {type(error).__name__}: {error}"))

    def _compare(self, batch: int, section: Section, buffer: Bytes, stop: int) -> list[Any]:
        production = self._production.read(buffer, section.end, stop)
        if production.end != stop:
            raise BadFrame(f"{stop - production.end} bytes behind the last tensor")
        arrays, micros = self._run(section)
        given = Given(production.tensors, production.datatypes)
        found = compare(self._outputs, arrays, given, section.rows, batched=self._batched)
        body = COMPARISON.pack(found.rows, found.agreed, found.incomparable, 0, found.max_abs_difference)
        return [HEADER.pack(len(body), batch, COMPARED, 0, 0, micros) + body]

    def _run(self, section: Section) -> tuple[list[Array], int]:
        started = perf_counter_ns()
        arrays = self._model.run(section.tensors)
        return arrays, min((perf_counter_ns() - started) // 1000, MAX_MICROS)


def error_frame(batch: int, error: FrameError) -> list[bytes]:
    """The ERROR frame of an error: one line."""
    text = " ".join(str(error).split()).encode(errors="replace")
    return [HEADER.pack(len(text), batch, ERROR, error.code, 0, 0) + text]
