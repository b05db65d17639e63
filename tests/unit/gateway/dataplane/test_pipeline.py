from math import inf
from typing import Any

import pytest

from gateway.dataplane.pipeline import LAPSED, PUSHBACK_MS, UNNAMED, Pipeline
from gateway.dataplane.route import NO_ARM, Route
from gateway.dataplane.tap import Series
from gateway.errors import Code
from gateway.routing.snapshot import Assignment, Canary, Policy, Queueing, Range, Release
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, floats, infer


class PipelineBench:
    """A pipeline with one model and one version."""

    def __init__(self, limit: int = 100, **changes: Any) -> None:
        self.bench = LaneBench(**changes)
        self.bench.load.limit, self.bench.load.half = limit, limit // 2
        self.refused = Series("", 0, NO_ARM)
        self.unchosen = Series("m", 0, f"{NO_ARM} of m")
        self.pipeline = Pipeline(self.bench.load, self.refused)
        release = Release("m", 4, Policy(stable=1))
        route = Route(release, Assignment(), lambda _: self.bench.lane, self._series_of)
        self.pipeline.routes = {b"m": route}

    def _series_of(self, version: int, arm: str) -> Series:
        return self.bench.series if version else self.unchosen

    def infer(self, message: bytes | None = None, **fields: Any) -> FakeCall:
        call = FakeCall(infer((1, 2)) if message is None else message, **fields)
        self.pipeline.infer(call)
        return call

    def codes(self) -> dict[str, dict[int, int]]:
        """Counted answers by series."""
        found = {}
        for series in (self.refused, self.unchosen, self.bench.series):
            report = series.take()
            if report is not None:
                found[report.arm] = report.codes
        return found


def test_a_call_is_answered_and_says_by_whom() -> None:
    made = PipelineBench()
    call = made.infer(infer((1, 2), id="käse"))
    made.bench.turn()
    made.bench.worker.answer()
    assert call.array() == [[1, 2]]
    assert (call.response.id, call.response.model_name, call.response.model_version) == ("käse", "m", "1")
    assert call.trailers == {"cutover-arm": "stable", "cutover-revision": "4", "cutover-reason": "stable"}
    assert made.codes() == {"stable": {Code.OK: 1}}


def test_typed_contents_are_answered_like_raw_ones() -> None:
    made = PipelineBench()
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="X", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    calls = [made.infer(message.SerializeToString()), made.infer()]
    made.bench.turn()
    (asked,) = made.bench.worker.frames()
    assert asked.sections[0].tensors == [floats(1, 2, 1, 2)]
    made.bench.worker.answer()
    assert calls[0].array() == calls[1].array()


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff", Code.INVALID_ARGUMENT, "the message is not a ModelInferRequest"),
        (infer((1, 2), model="x"), Code.NOT_FOUND, "model 'x' is not served here"),
        (b"", Code.NOT_FOUND, "model '' is not served here"),
        (b"\x0a\x01\xff", Code.INVALID_ARGUMENT, "model_name is not UTF-8"),
    ],
)
def test_what_reaches_no_arm_is_counted_under_none(message: bytes, code: Code, text: str) -> None:
    made = PipelineBench()
    call = made.infer(message)
    assert (call.code, call.text, call.words) == (code, text, {})
    assert made.codes() == {NO_ARM: {code: 1}}
    assert made.bench.load.in_flight == 0


def test_a_known_model_without_the_wanted_arm_is_counted_by_its_name() -> None:
    made = PipelineBench()
    call = made.infer(infer((1, 2), model_version="9"))
    assert (call.code, call.text) == (Code.NOT_FOUND, "m has no live version 9; it has 1")
    assert made.codes() == {"none of m": {Code.NOT_FOUND: 1}}


def test_what_an_arm_refuses_is_counted_there_and_says_so() -> None:
    made = PipelineBench()
    call = made.infer(pb.ModelInferRequest(model_name="m").SerializeToString())
    assert (call.code, call.text) == (Code.INVALID_ARGUMENT, "input 'X' is missing; m takes X")
    assert call.trailers["cutover-arm"] == "stable"
    assert made.codes() == {"stable": {Code.INVALID_ARGUMENT: 1}}


def test_too_much_in_flight_is_refused_before_the_message_is_read() -> None:
    made = PipelineBench(limit=2)
    for _ in range(2):
        made.infer()
    call = made.infer(b"\xff")
    assert (call.code, call.text) == (Code.RESOURCE_EXHAUSTED, "2 requests are in flight already")
    assert call.words == {"grpc-retry-pushback-ms": str(PUSHBACK_MS)}
    made.bench.turn()
    made.bench.worker.answer()
    assert made.infer().code is None, "there is room again"


def test_a_full_queue_names_the_arm_and_the_pushback() -> None:
    made = PipelineBench(max_queue=1, workers=0)
    made.infer()
    call = made.infer()
    assert call.code == Code.RESOURCE_EXHAUSTED
    assert call.trailers["cutover-arm"] == "stable"
    assert call.trailers["grpc-retry-pushback-ms"]


def test_a_deadline_that_passed_on_the_way_is_late_at_once() -> None:
    made = PipelineBench()
    call = made.infer(arrived_s=10.0, deadline_s=10.0)
    assert (call.code, call.text) == (Code.DEADLINE_EXCEEDED, "the deadline passed before the request arrived")
    assert made.bench.lane.queued == 0


def test_what_arrives_once_the_lease_has_lapsed_is_refused_whatever_it_asks() -> None:
    made = PipelineBench()
    made.pipeline.lease_until_s = 10.0
    before = made.infer(arrived_s=9.999)
    messages = infer((1, 2)), infer((1, 2), model_version="9"), infer((1, 2), model="x"), b"\xff"
    for call in [made.infer(message, arrived_s=10.0) for message in messages]:
        assert (call.code, call.text, call.words) == (Code.UNAVAILABLE, LAPSED, {})
    made.bench.turn()
    made.bench.worker.answer()
    assert before.code == Code.OK, "what was admitted before finishes where it began"
    made.pipeline.lease_until_s = 11.0
    assert made.infer(arrived_s=10.0).code is None


def test_while_a_version_loads_it_is_unavailable_and_not_misunderstood() -> None:
    made = PipelineBench(workers=0, inputs=(), outputs=(), state="loading")
    call = made.infer()
    assert (call.code, call.text) == (Code.UNAVAILABLE, "m version 1 is not ready: it is loading")


def test_metadata_decides_the_arm() -> None:
    made = PipelineBench()
    call = made.infer(values={"cutover-arm": "canary-2"})
    assert (call.code, call.text) == (
        Code.INVALID_ARGUMENT,
        "metadata cutover-arm: m has no arm 'canary-2'; it has stable",
    )


def test_routes_may_change_between_calls() -> None:
    made = PipelineBench()
    before = made.infer()
    made.pipeline.routes = {}
    assert made.infer().code == Code.NOT_FOUND
    made.bench.turn()
    made.bench.worker.answer()
    assert before.code == Code.OK, "what was admitted before finishes where it began"


def parameters(**values: int | str) -> bytes:
    message = pb.ModelInferRequest.FromString(infer((1, 2)))
    for name, value in values.items():
        if isinstance(value, int):
            message.parameters[name].int64_param = value
        else:
            message.parameters[name].string_param = value
    return message.SerializeToString()


def test_a_request_may_shorten_its_wait_and_choose_its_priority() -> None:
    made = PipelineBench(workers=0, queueing=Queueing(priority_levels=3))
    made.infer(parameters(timeout=2_000_000, priority=1), arrived_s=10.0, deadline_s=11.0)
    made.infer(parameters(timeout=2_000_000), arrived_s=10.0)
    made.infer(arrived_s=10.0)
    jobs = list(made.bench.lane._waiting)
    assert [(job.deadline_s, job.level) for job in jobs] == [(11.0, 0), (12.0, 2), (inf, 2)]


def test_the_releases_timeout_holds_beside_what_a_request_asks() -> None:
    made = PipelineBench(workers=0, queueing=Queueing(priority_levels=3))
    release = Release("m", 5, Policy(stable=1, timeout_ms=1500))
    made.pipeline.routes = {b"m": Route(release, Assignment(), lambda _: made.bench.lane, made._series_of)}
    made.infer(parameters(timeout=1_000_000, priority=1), arrived_s=10.0)
    made.infer(parameters(timeout=2_000_000, priority=2), arrived_s=10.0, deadline_s=13.0)
    made.infer(arrived_s=10.0, deadline_s=11.0)
    jobs = list(made.bench.lane._waiting)
    found = [(job.deadline_s, job.call.deadline_s, job.level) for job in jobs]
    assert found == [(11.0, 11.5, 0), (11.5, 11.5, 1), (11.0, 11.0, 2)]


def test_what_a_request_must_not_ask_is_refused() -> None:
    made = PipelineBench()
    call = made.infer(parameters(sequence_id=7))
    assert call.code == Code.INVALID_ARGUMENT
    assert "stateless" in call.text


def test_while_many_wait_jobs_say_who_asks() -> None:
    made = PipelineBench(workers=0, max_batch_size=1)
    for name in ("a", "b", "c", "d"):
        made.infer(values={"x-user-id": name})
    made.infer(parameters(user_id="e"))
    made.infer()
    assert sorted(job.who for job in made.bench.lane._waiting) == ["", "", UNNAMED, "c", "d", "e"]


def test_half_of_the_limit_is_kept_for_the_stable_version() -> None:
    made = PipelineBench(limit=4)
    canary = LaneBench(workers=0)
    release = Release("m", 5, Policy(stable=1, canaries=(Canary(2, (Range(0, 10_000),)),), salt="m/2"))
    lanes = {1: made.bench.lane, 2: canary.lane}
    made.pipeline.routes = {b"m": Route(release, Assignment(), lanes.__getitem__, made._series_of)}
    canary.lane.minor = True
    canary.lane._load = made.bench.load
    calls = [made.infer() for _ in range(3)]
    assert [call.code for call in calls] == [None, None, Code.RESOURCE_EXHAUSTED]
    stable = [made.infer(values={"cutover-arm": "stable"}) for _ in range(3)]
    assert [call.code for call in stable] == [None, None, Code.RESOURCE_EXHAUSTED]
