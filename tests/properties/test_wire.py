"""Properties of the frame format: what is written is read, and no bytes whatsoever get past the reader."""

import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests import frames, models
from workers import wire
from workers.compare import Given, compare
from workers.connection import Connection
from workers.errors import BadFrame, Refused
from workers.sections import Reader, Writer
from workers.service import frame_bytes
from workers.tensors import Array, Tensor, joined

NUMBERS = sorted(set(models.ELEMENT_TYPES) - {"BF16", "BYTES"})
settings.register_profile("wire", deadline=None, max_examples=60)
PROFILE = settings.get_profile("wire")


def dtype_of(datatype: str) -> np.dtype[Any]:
    return frames.from_bytes(datatype, [0], b"").dtype


def tensor(datatype: str) -> st.SearchStrategy[Array]:
    shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
    if datatype == "BYTES":
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
        return arrays.arrays(np.dtype(object), shapes, elements=text, fill=st.nothing())
    return arrays.arrays(dtype_of(datatype), shapes)


TENSORS = st.sampled_from([*NUMBERS, "BYTES"]).flatmap(tensor)
NAMES = st.text(min_size=1, max_size=8)


@PROFILE
@given(st.dictionaries(NAMES, TENSORS, max_size=4), st.integers(0, 15))
def test_a_section_is_read_as_it_was_written(tensors: dict[str, Array], offset: int) -> None:
    expected = {name: frames.DATATYPES[array.dtype.name] for name, array in tensors.items()}
    data = bytes(offset) + frames.section(tensors, batched=False) + b"behind"
    section = Reader(batched=False, expected=expected).read(data, offset, len(data))
    assert section.end == len(data) - len(b"behind")
    assert section.datatypes == expected
    for name, array in tensors.items():
        assert section.tensors[name].shape == array.shape
        np.testing.assert_array_equal(section.tensors[name], array)
        assert section.tensors[name].flags.aligned


@PROFILE
@given(st.lists(TENSORS, min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_result_is_read_as_it_was_written(outputs: list[Array], batch: int, micros: int) -> None:
    words = [frames.DATATYPES[array.dtype.name] for array in outputs]
    declared = [
        Tensor(str(index), word, (-1,) * array.ndim)
        for index, (word, array) in enumerate(zip(words, outputs, strict=True))
    ]
    answer = frames.parse(b"".join(Writer(declared, batched=False).result(batch, 1, outputs, micros)))
    assert (answer.kind, answer.batch, answer.micros) == (wire.RESULT, batch, micros)
    for array, word, found in zip(outputs, words, answer.tensors(batched=False).values(), strict=True):
        assert found.shape == array.shape
        if word == "BYTES":
            array = np.array([text.encode() for text in array.ravel()], dtype=object).reshape(array.shape)  # noqa: PLW2901 - as on the wire
        np.testing.assert_array_equal(found, array)


@PROFILE
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8), st.lists(st.integers(1, 4000), min_size=1, max_size=40))
def test_frames_survive_any_cutting(sizes: list[int], cuts: list[int]) -> None:
    sent = [frames.frame(wire.RUN, batch, bytes(wire.SECTION.size + size)) for batch, size in enumerate(sizes)]
    stream = b"".join(sent)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    connection = Connection(ours)
    found = []
    at = turn = 0
    try:
        while at < len(stream):
            size = cuts[turn % len(cuts)]
            theirs.sendall(stream[at : at + size])
            at, turn = at + size, turn + 1
            assert connection.receive()
            while (span := connection.frame()) is not None:
                found.append(bytes(connection.buffer[span[0] : span[1]]))
    finally:
        connection.close()
        theirs.close()
    assert found == sent


story = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 3000)),
        st.tuples(st.just("run"), st.integers(200_000, 300_000)),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
        st.tuples(st.just("pass"), st.integers(1, 100_000)),
        st.tuples(st.just("take"), st.just(0)),
    ),
    max_size=40,
)


@PROFILE
@given(story)
def test_of_frames_that_wait_those_are_marked_whose_cancel_was_read(told: list[tuple[str, int]]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.setblocking(False)
    connection = Connection(ours)
    stream, run_ends, cancels = b"", list[int](), list[tuple[int, int]]()
    taken, passed = 0, 0

    def receive() -> None:
        before = connection._end - connection._start
        while True:
            connection.receive()
            now = connection._end - connection._start
            if now == before:
                return
            before = now

    def take() -> bool:
        nonlocal taken
        span = connection.frame()
        if span is None:
            return False
        header = wire.HEADER.unpack_from(connection.buffer, span[0])
        assert (header[1], span[1] - span[0]) == (taken, wire.HEADER.size + header[0])
        read = passed - struct.unpack("i", fcntl.ioctl(ours, termios.FIONREAD, bytes(4)))[0]
        cancelled = any(number == taken and run_ends[taken] < end <= read for number, end in cancels)
        assert header[2] == (wire.CANCEL if cancelled else wire.RUN)
        taken += 1
        return True

    try:
        for what, number in told:
            if what == "run":
                stream += frames.frame(wire.RUN, len(run_ends), bytes(wire.SECTION.size + number))
                run_ends.append(len(stream))
            elif what == "cancel":
                stream += frames.frame(wire.CANCEL, number)
                cancels.append((number, len(stream)))
            elif what == "take":
                take()
            else:
                with contextlib.suppress(BlockingIOError):
                    passed += theirs.send(stream[passed : passed + number])
                receive()
        while taken < len(run_ends):
            with contextlib.suppress(BlockingIOError):
                passed += theirs.send(stream[passed:])
            receive()
            take()
    finally:
        connection.close()
        theirs.close()


def _reader_takes(data: bytes) -> None:
    for batched in (False, True):
        for expected in ({"X": "FP32", "T": "BYTES"}, None):
            try:
                section = Reader(batched=batched, expected=expected).read(data, 0, len(data))
            except (BadFrame, Refused):
                continue
            assert section.end <= len(data)


@PROFILE
@given(st.binary(max_size=200))
def test_random_bytes_are_bad_frames_or_nothing(data: bytes) -> None:
    _reader_takes(data)
    if len(data) >= wire.HEADER.size:
        with contextlib.suppress(BadFrame):
            assert frame_bytes(data, 0) >= wire.HEADER.size


@PROFILE
@given(st.data())
def test_a_frame_with_a_few_bytes_changed_never_gets_past_the_reader(data: st.DataObject) -> None:
    tensors = {"X": np.ones((2, 3), np.float32), "T": np.array(["a", "bc"], dtype=object)}
    whole = bytearray(frames.section(tensors))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _reader_takes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@PROFILE
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=3))
def test_counts_that_lie_never_get_past_the_reader(rows: int, count: int, sizes: list[int]) -> None:
    text = b'[["X","FP32",[3]],["T","BYTES",[]]]'
    table = struct.pack(f"<{len(sizes)}I", *sizes)
    _reader_takes(wire.SECTION.pack(len(text), count, rows) + table + text + bytes(50))


@PROFILE
@given(st.data())
def test_a_comparison_is_what_a_loop_over_rows_says(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4))
    values = st.sampled_from([0.0, 0.25, 1.0, -3.0, np.inf, np.nan])
    shape = (rows, columns)
    mine, theirs = (data.draw(arrays.arrays(np.float32, shape, elements=values)) for _ in range(2))
    labels, others = (data.draw(arrays.arrays(np.int64, rows, elements=st.integers(0, 1))) for _ in range(2))
    outputs = [Tensor("label", "INT64", (-1,)), Tensor("p", "FP32", (-1, columns))]
    found = compare(
        outputs,
        [labels, mine],
        Given({"p": theirs, "label": others}, {"p": "FP32", "label": "INT64"}),
        rows,
        batched=True,
    )
    agreed = sum(
        int(labels[row] == others[row] and int(np.argmax(mine[row])) == int(np.argmax(theirs[row])))
        for row in range(rows)
    )
    differences = [
        0.0 if a == b or (np.isnan(a) and np.isnan(b)) else np.inf if np.isnan(a) or np.isnan(b) else abs(a - b)
        for a, b in zip(mine.ravel().tolist(), theirs.ravel().tolist(), strict=True)
    ]
    assert found == (rows, agreed, False, max(differences))


@PROFILE
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6))
def test_texts_are_joined_as_clients_send_them(words: list[str]) -> None:
    assume(words)
    array = np.array(words, dtype=object)
    assert joined(array) == frames.to_bytes(array)
