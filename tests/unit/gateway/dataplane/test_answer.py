import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from gateway.dataplane import answer
from gateway.dataplane.job import Batch, Job, run_frame
from gateway.dataplane.plan import Plans, signature
from gateway.dataplane.regions import Regions
from gateway.dataplane.tap import Series
from gateway.errors import Code
from gateway.oip import request as oip
from gateway.oip.request import Head, Input
from gateway.oip.reserved import Place
from gateway.routing.snapshot import Pool, Region, Tensor
from gateway.transport.call import NO_TRAILERS
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, floats, pool
from workers import wire

MIXED = pool(
    outputs=(Tensor("label", "INT64", (-1,)), Tensor("word", "BYTES", (-1,)), Tensor("pair", "FP32", (-1, 2))),
)
MIXED_SIGNATURE = signature([("label", "INT64", []), ("word", "BYTES", []), ("pair", "FP32", [2])])
PLAIN_SIGNATURE = signature([("label", "INT64", []), ("pair", "FP32", [2])])


def batch(where: Pool, *asked: tuple[int, tuple[str, ...]], series: Series | None = None) -> Batch:
    """A batch of jobs: rows of each, and the outputs it asks for. Jobs that ask the same share a plan."""
    plans = Plans(where)
    jobs: list[Job] = []
    for rows, outputs in asked:
        message = pb.ModelInferRequest(model_name="m", id=f"call-{len(jobs)}")
        message.inputs.add(name="X", datatype="FP32", shape=[rows, 2])
        for name in outputs:
            message.outputs.add(name=name)
        message.raw_input_contents.append(floats(*[0.0] * (2 * rows)))
        call = FakeCall(message.SerializeToString(), arrived_s=1.0)
        request, raw = oip.read(call.message)
        plan = plans.get(request.head)
        found = series or Series("m", 1, "stable")
        jobs.append(Job(call, plan, plan.arrange(raw), request.id, found, NO_TRAILERS))
    rows = sum(each for each, _ in asked)
    ignore: list[Any] = [lambda *_: None] * 3
    return Batch(run_frame(jobs, rows), rows, jobs, *ignore)


def calls(of: Batch) -> list[FakeCall]:
    found = []
    for job in of.jobs:
        assert isinstance(job.call, FakeCall)
        found.append(job.call)
    return found


def strings(values: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def mixed(rows: int) -> bytes:
    """A RESULT section with numbers and strings, of which every row is different."""
    words = [b"x" * row + str(row).encode() for row in range(rows)]
    tensors = [np.arange(rows, dtype="<i8").tobytes(), strings(words), np.arange(2 * rows, dtype="<f4").tobytes()]
    return b"".join(wire.section(MIXED_SIGNATURE, rows, tensors))


def plain(rows: int) -> bytes:
    tensors = [np.arange(rows, dtype="<i8").tobytes(), np.arange(2 * rows, dtype="<f4").tobytes()]
    return b"".join(wire.section(PLAIN_SIGNATURE, rows, tensors))


def deliver(to: Batch, section: bytes, before: bytes = b"", behind: bytes = b"") -> bool:
    data = before + section + behind
    return answer.deliver(to, data, len(before), len(before) + len(section))


ALL: tuple[str, ...] = ()


@pytest.mark.parametrize("big", [0, 1 << 17], ids=["small", "large"])
@pytest.mark.parametrize(
    "asked",
    [
        [(1, ALL)],
        [(1, ALL)] * 5,
        [(3, ALL)] * 2,
        [(1, ALL), (3, ALL), (2, ALL)],
        [(2, ("pair",)), (1, ALL), (2, ("pair", "label")), (0, ALL)],
        [(0, ALL)],
    ],
    ids=str,
)
def test_each_request_gets_its_rows_of_the_outputs_it_asked_for(
    asked: list[tuple[int, tuple[str, ...]]], big: int
) -> None:
    """Whatever way is taken: jobs alike, jobs that differ, a received chunk too large to be copied."""
    where = pool(outputs=(Tensor("label", "INT64", (-1,)), Tensor("pair", "FP32", (-1, 2))))
    jobs = batch(where, *asked)
    assert deliver(jobs, plain(jobs.rows), b"before", b"b" * big)
    row = 0
    for number, (call, (rows, outputs)) in enumerate(zip(calls(jobs), asked, strict=True)):
        response = call.response
        assert (response.id, response.model_version) == (f"call-{number}", "1")
        names = outputs or ("label", "pair")
        assert tuple(output.name for output in response.outputs) == names
        for output, name in enumerate(names):
            values = range(row, row + rows)
            expected: list[Any] = [[2 * v, 2 * v + 1] for v in values] if name == "pair" else list(values)
            assert call.array(output, "<f4" if name == "pair" else "<i8") == expected
        row += rows


@pytest.mark.parametrize(
    "asked",
    [[(1, ALL)] * 4, [(2, ALL), (1, ("word",)), (3, ("pair", "word")), (0, ALL)], [(1, ("label",)), (2, ("pair",))]],
    ids=str,
)
def test_strings_are_cut_between_rows(asked: list[tuple[int, tuple[str, ...]]]) -> None:
    jobs = batch(MIXED, *asked)
    assert deliver(jobs, mixed(jobs.rows), b"before", b"behind")
    row = 0
    for call, (rows, outputs) in zip(calls(jobs), asked, strict=True):
        raw = dict(zip([o.name for o in call.response.outputs], call.response.raw_output_contents, strict=True))
        assert tuple(raw) == (outputs or ("label", "word", "pair"))
        expected = {
            "label": np.arange(row, row + rows, dtype="<i8").tobytes(),
            "word": strings([b"x" * r + str(r).encode() for r in range(row, row + rows)]),
            "pair": np.arange(2 * row, 2 * (row + rows), dtype="<f4").tobytes(),
        }
        assert raw == {name: expected[name] for name in raw}
        row += rows


def test_an_answer_without_a_batch_axis() -> None:
    where = pool(batched=False, inputs=(Tensor("X", "FP32", (1, 2)),))
    jobs = batch(where, (1, ALL))
    text = signature([("Y", "FP32", [3]), ("S", "BYTES", [2])])
    section = b"".join(wire.section(text, 1, [b"y" * 12, strings([b"a", b"b"])]))
    assert deliver(jobs, section)
    (call,) = calls(jobs)
    assert [list(output.shape) for output in call.response.outputs] == [[3], [2]]
    assert list(call.response.raw_output_contents) == [b"y" * 12, strings([b"a", b"b"])]


def test_outputs_without_elements() -> None:
    series = Series("m", 1, "stable")
    jobs = batch(pool(), (1, ALL), (1, ALL), series=series)
    assert deliver(jobs, b"".join(wire.section(signature([("Y", "FP32", [0])]), 2, [b""])))
    assert [list(call.response.raw_output_contents) for call in calls(jobs)] == [[b""], [b""]]
    report = series.take()
    assert report is not None
    assert report.codes == {Code.OK: 2}


def test_who_left_gets_nothing_and_the_others_their_own() -> None:
    jobs = batch(pool(), (1, ALL), (1, ALL), (1, ALL))
    calls(jobs)[1].cancel()
    assert deliver(jobs, b"".join(wire.section(signature([("Y", "FP32", [2])]), 3, [floats(1, 1, 2, 2, 3, 3)])))
    assert [call.answers for call in calls(jobs)] == [1, 0, 1]
    assert calls(jobs)[2].array() == [[3, 3]]


Y = signature([("Y", "FP32", [2])])
MALFORMED = {
    "nothing": b"",
    "shorter than a table": b"\0\0\0",
    "more tensors than bytes": wire.SECTION.pack(0, 900, 2),
    "a table beyond any memory": wire.SECTION.pack(0, 0xFFFF_FFFF, 2),
    "signature beyond the section": wire.SECTION.pack(0xFFFF, 0, 2) + b"[]",
    "signature that nests too deep": b"".join(wire.section(b"[" * 50_000, 2, [b""])),
    "other rows": b"".join(wire.section(Y, 3, [floats(*[0.0] * 6)])),
    "bytes missing": b"".join(wire.section(Y, 2, [floats(0, 0, 0, 0)]))[:-1],
    "bytes too many": b"".join(wire.section(Y, 2, [floats(0, 0, 0, 0)])) + b"\0",
    "tensor shorter than its shape": b"".join(wire.section(Y, 2, [b"12345678"])),
    "tensor longer than its shape": b"".join(wire.section(Y, 2, [b"1" * 18])),
    "fewer tensors than outputs": b"".join(wire.section(Y, 2, [])),
    "signature is not JSON": b"".join(wire.section(b"{]", 2, [b""])),
    "signature is not UTF-8": b"".join(wire.section(b"\xff\xfe\xfd", 2, [b""])),
    "signature is a number": b"".join(wire.section(b"7", 2, [b""])),
    "signature of numbers": b"".join(wire.section(b"[1]", 2, [b""])),
    "signature is an object": b"".join(wire.section(b'{"Y":1}', 2, [b""])),
    "name is a number": b"".join(wire.section(b'[[1,"FP32",[2]]]', 2, [b"1" * 16])),
    "unknown datatype": b"".join(wire.section(b'[["Y","FP31",[2]]]', 2, [b"1" * 16])),
    "shape is text": b"".join(wire.section(b'[["Y","FP32",["2"]]]', 2, [b"1" * 16])),
    "shape is nothing": b"".join(wire.section(b'[["Y","FP32",null]]', 2, [b"1" * 16])),
    "negative shape": b"".join(wire.section(b'[["Y","FP32",[-2]]]', 2, [b"1" * 16])),
    "shape beyond any memory": b"".join(wire.section(b'[["Y","FP32",[%d]]]' % (1 << 70), 2, [b"1" * 16])),
    "strings that end elsewhere": b"".join(wire.section(b'[["Y","BYTES",[]]]', 2, [b"\x09\0\0\0ab\0\0"])),
    "fewer strings": b"".join(wire.section(b'[["Y","BYTES",[]]]', 2, [strings([b"a"])])),
    "more strings": b"".join(wire.section(b'[["Y","BYTES",[]]]', 2, [strings([b"a", b"b", b"c"])])),
}


@pytest.mark.parametrize("section", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("asked", [[(1, ALL), (1, ALL)], [(2, ALL)], [(1, ALL), (1, ("Y",))]], ids=str)
def test_a_malformed_result_is_internal_for_the_whole_batch(
    section: bytes, asked: list[tuple[int, tuple[str, ...]]]
) -> None:
    series = Series("m", 1, "stable")
    jobs = batch(pool(), *asked, series=series)
    assert not deliver(jobs, section, b"before", b"behind")
    for call in calls(jobs):
        assert call.code == Code.INTERNAL
        assert call.text.startswith("the worker's answer does not fit the request: ")
        assert "\n" not in call.text
    report = series.take()
    assert report is not None
    assert report.codes == {Code.INTERNAL: len(asked)}


def test_a_mistake_of_ours_leaves_nobody_without_an_answer_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("a mistake")

    monkeypatch.setattr(answer, "_messages_alike", fails)
    jobs = batch(pool(), (1, ALL), (1, ALL))
    with structlog.testing.capture_logs() as said:
        assert not deliver(jobs, b"".join(wire.section(Y, 2, [floats(1, 2, 3, 4)])))
    assert [call.code for call in calls(jobs)] == [Code.INTERNAL] * 2
    assert [line["event"] for line in said] == ["an answer cannot be cut into replies"]


def test_a_count_that_lies_is_refused_before_it_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SIZE", None)
    with pytest.raises(ValueError, match="a table of 4294967295 tensors in 1024 bytes"):
        answer.read_section(wire.SECTION.pack(0, 0xFFFF_FFFF, 1).ljust(1024), 0, 1024, 1)


def test_an_output_the_worker_did_not_send_fails_only_who_asked_for_it() -> None:
    series = Series("m", 1, "stable")
    where = pool(outputs=(Tensor("Y", "FP32", (-1, 2)), Tensor("Z", "FP32", (-1,))))
    jobs = batch(where, (1, ("Y",)), (1, ("Z",)), series=series)
    assert not deliver(jobs, b"".join(wire.section(Y, 2, [floats(1, 2, 3, 4)])))
    assert [call.code for call in calls(jobs)] == [Code.OK, Code.INTERNAL]
    report = series.take()
    assert report is not None
    assert report.codes == {Code.OK: 1, Code.INTERNAL: 1}


def test_durations_are_counted_per_series_and_arrival() -> None:
    one, other = Series("m", 1, "stable"), Series("m", 1, "standby")
    jobs = batch(pool(), *[(1, ())] * 6)
    jobs.sent_s = 2.0
    came = [(one, 1.0)] * 3 + [(other, 1.0)] + [(one, 1.5)] * 2
    for job, call, (series, arrived_s) in zip(jobs.jobs, calls(jobs), came, strict=True):
        job.series, call.arrived_s = series, arrived_s
    answer._reply_all(jobs, [b""] * 6, 3.0)
    reports = [one.take(), other.take()]
    assert all(reports)
    found = [
        (r.codes, r.latency_sum_us, r.latency_max_us, r.queue_sum_us, r.queue_max_us, sum(r.queue.values()))
        for r in reports
        if r
    ]
    assert found == [
        ({Code.OK: 5}, 3 * 2_000_000 + 2 * 1_500_000, 2_000_000, 3 * 1_000_000 + 2 * 500_000, 1_000_000, 5),
        ({Code.OK: 1}, 2_000_000, 2_000_000, 1_000_000, 1_000_000, 1),
    ]


def test_results_that_begin_alike_are_cut_alike() -> None:
    first = batch(pool(), (1, ()), (1, ()))
    plan = first.jobs[0].plan
    assert deliver(first, b"".join(wire.section(Y, 2, [floats(1, 2, 3, 4)])))
    assert len(plan.cuts) == 1
    for _ in range(2):
        second = batch(pool(), (1, ()), (1, ()))
        for job in second.jobs:
            job.plan = plan
        assert deliver(second, b"".join(wire.section(Y, 2, [floats(5, 6, 7, 8)])))
        assert [call.array() for call in calls(second)] == [[[5, 6]], [[7, 8]]]
    assert len(plan.cuts) == 1


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_result_that_begins_like_another_must_fit_all_the_same(extra: int) -> None:
    first, second, third = (batch(pool(), *[(1, ())] * count) for count in (2, 3, 2))
    plan = first.jobs[0].plan
    for job in (*second.jobs, *third.jobs):
        job.plan = plan
    whole = b"".join(wire.section(Y, 2, [floats(1, 2, 3, 4)]))
    assert deliver(first, whole)
    assert not deliver(second, whole)  # two rows for three
    assert not deliver(third, whole[:extra] if extra < 0 else whole + b"?")
    assert {call.code for call in (*calls(second), *calls(third))} == {Code.INTERNAL}


def test_kept_cuts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dataplane.plan.MAX_REPLY_SHAPES", 3)
    plan = batch(pool(), (1, ())).jobs[0].plan
    for count in range(1, 9):
        many = batch(pool(), *[(1, ())] * count)
        for job in many.jobs:
            job.plan = plan
        assert deliver(many, b"".join(wire.section(Y, count, [floats(*[0.0] * (2 * count))])))
        assert 1 <= len(plan.cuts) <= 3


def test_sections_are_taken_apart() -> None:
    section = b"".join(wire.section(b"[]", 4, [b"ab", b"", b"c"]))
    text, sizes, offsets = answer.read_section(b"??" + section + b"!!", 2, 2 + len(section), 4)
    assert (text, sizes) == (b"[]", [2, 0, 1])
    assert offsets == [len(section) - 1, len(section) + 1, len(section) + 1]


def special(where: Pool, regions: Regions, *asked: dict[str, int | Place]) -> Batch:
    """A batch of jobs of one row that want all outputs, these as asked."""
    plans = Plans(where, regions)
    jobs: list[Job] = []
    for number, wishes in enumerate(asked):
        head = Head((Input("X", "FP32", (1, 2)),), tuple(tensor.name for tensor in where.outputs), True, wishes)
        jobs.append(
            Job(FakeCall(b""), plans.get(head), [floats(0, 0)], b"%d" % number, Series("m", 1, "stable"), NO_TRAILERS)
        )
    ignore: list[Any] = [lambda *_: None] * 3
    return Batch(run_frame(jobs, len(jobs)), len(jobs), jobs, *ignore)


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    """Region `r` of 64 bytes in a file `object`."""
    path = tmp_path / "object"
    path.write_bytes(bytes(64))
    status = path.stat()
    made = Regions(tmp_path)
    made.update([Region("r", "object", 0, 64, status.st_dev, status.st_ino)])
    yield made
    made.close()


NUMBERS = pool(outputs=(Tensor("label", "INT64", (-1,)), Tensor("pair", "FP32", (-1, 2))), labels={"pair": ("a", "b")})


def test_plain_and_special_requests_share_a_batch(regions: Regions, tmp_path: Path) -> None:
    to = special(NUMBERS, regions, {}, {"pair": 1}, {"pair": Place("r", 8, 16)}, {"pair": 2, "label": 1})
    assert deliver(to, plain(4), b"before", b"behind")
    usual, best, shared, all_of_it = calls(to)
    assert (usual.array(0, "<i8"), usual.array(1)) == ([0], [[0, 1]])
    assert best.array(0, "<i8") == [1]
    assert best.response.raw_output_contents[1] == strings([b"3.000000:1:b"])
    assert shared.response.id == "2"
    assert list(shared.response.raw_output_contents[1:]) == [b""]
    assert (tmp_path / "object").read_bytes()[16:24] == floats(4, 5)
    assert list(all_of_it.response.raw_output_contents) == [
        strings([b"3:0"]),
        strings([b"7.000000:1:b", b"6.000000:0:a"]),
    ]
    assert [job.series.take() is not None for job in to.jobs] == [True] * 4


def test_strings_go_into_shared_memory_too(regions: Regions, tmp_path: Path) -> None:
    to = special(MIXED, regions, {}, {"word": Place("r", 64, 0), "pair": 1})
    assert deliver(to, mixed(2))
    (_, shared) = calls(to)
    assert list(shared.response.raw_output_contents)[1:] == [b"", strings([b"3.000000:1"])]
    assert (tmp_path / "object").read_bytes().startswith(strings([b"x1"]))


def test_what_is_wrong_with_a_place_is_the_affair_of_its_request(regions: Regions, tmp_path: Path) -> None:
    to = special(NUMBERS, regions, {"pair": Place("r", 7, 0)}, {}, {"pair": Place("r", 8, 60)})
    assert deliver(to, plain(3))
    small, usual, beyond = calls(to)
    assert (small.code, beyond.code) == (Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT)
    assert small.text == "output 'pair': it takes 8 bytes, but 'shared_memory_byte_size' is 7; offer as many"
    assert beyond.text == "output 'pair': offset 60 and 8 bytes are more than region 'r' has, 64 bytes"
    assert usual.array(1) == [[2, 3]]
    assert (tmp_path / "object").read_bytes() == bytes(64)


def test_a_region_that_goes_while_its_request_is_run(regions: Regions) -> None:
    to = special(NUMBERS, regions, {"pair": Place("r", 8, 0)})
    regions.update([])
    assert deliver(to, plain(1))
    (call,) = calls(to)
    assert call.code == Code.INVALID_ARGUMENT
    assert call.text == "output 'pair': shared memory region 'r' is not registered, or its object is gone"


def test_nothing_is_written_for_a_caller_that_left(regions: Regions, tmp_path: Path) -> None:
    to = special(NUMBERS, regions, {"pair": Place("r", 8, 0)}, {"pair": Place("r", 8, 8)})
    calls(to)[0].cancel()
    assert deliver(to, plain(2))
    content = (tmp_path / "object").read_bytes()
    assert (content[:8], content[8:16]) == (bytes(8), floats(2, 3))
