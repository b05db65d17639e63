import errno
import socket
from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest

from gateway.dataplane import mirror as mirrors
from gateway.dataplane import plane as planes
from gateway.dataplane.channel import Channel
from gateway.dataplane.lane import Lane
from gateway.dataplane.plane import Settings
from gateway.dataplane.pressure import MAX_HOLD_S, Sample
from gateway.dataplane.route import Route
from gateway.errors import Code
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Pool, Range, Release, Shadow, Snapshot
from tests.unit.gateway.dataplane.fakes import FakeCall, Frame, compared, echo, infer, until
from tests.unit.gateway.dataplane.plane_bench import PlaneBench, version
from workers import wire


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[PlaneBench]:
    made = PlaneBench(tmp_path)
    yield made
    await made.stop()


async def test_before_the_first_snapshot_nothing_is_served(bench: PlaneBench) -> None:
    assert not bench.plane.settled
    assert bench.infer().code == Code.NOT_FOUND


async def test_a_snapshot_is_served(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1, await bench.start("a")))
    assert await bench.answered(call := bench.infer()) == Code.OK
    assert call.trailers["cutover-revision"] == "1"
    assert bench.plane.settled
    assert bench.plane.ready("m", 1)
    assert bench.plane.in_flight == 0
    described = bench.plane.pool("m", 1)
    assert described is not None
    assert described.inputs
    assert bench.plane.pool("m", 9) is None
    assert not bench.plane.ready("m", 9)


async def test_a_flip_takes_effect_with_the_call_and_the_old_way_back_stays_warm(bench: PlaneBench) -> None:
    pools = version(1, await bench.start("a")), version(2, await bench.start("b"))
    bench.apply(Policy(1, standby=2), *pools)
    await until(lambda: bench.plane.ready("m", 1) and bench.plane.ready("m", 2))
    before = bench.infer()
    bench.apply(Policy(2, standby=1), *pools)
    after = bench.infer()
    await until(lambda: before.closed and after.closed)
    assert (before.response.model_version, before.trailers["cutover-revision"]) == ("1", "1")
    assert (after.response.model_version, after.trailers["cutover-revision"]) == ("2", "2")
    bench.apply(Policy(1, standby=2), *pools)
    again = bench.infer()
    await until(lambda: again.closed)
    assert again.response.model_version == "1"
    assert [bench.workers[name].connections for name in "ab"] == [1, 1]


async def test_canaries_and_assignments_come_from_the_snapshot(bench: PlaneBench) -> None:
    pools = version(1, await bench.start("a")), version(2, await bench.start("b"))
    everybody = Policy(1, canaries=(Canary(2, (Range(0, 10_000),)),), salt="m/2")
    bench.apply(everybody, *pools)
    assert await bench.answered(call := bench.infer("ada")) == Code.OK
    assert (call.response.model_version, call.trailers["cutover-arm"]) == ("2", "canary-2")
    bench.apply(everybody, *pools, assignments={"m": Assignment(unit_metadata=("x-tenant",), no_unit="stable")})
    assert await bench.answered(call := bench.infer("ada")) == Code.OK
    assert (call.response.model_version, call.trailers["cutover-reason"]) == ("1", "no-unit")


async def test_the_release_knows_its_units_and_its_control_group(bench: PlaneBench) -> None:
    pools = version(1, await bench.start("a")), version(2, await bench.start("b"))
    everybody = Holdout(1, (Range(0, 10_000),), "m/holdout/1")
    policy = Policy(2, holdout=everybody, assignment=Assignment(unit_metadata=("x-user-id",)))
    bench.apply(policy, *pools, assignments={"m": Assignment(unit_metadata=("x-tenant",))})
    assert await bench.answered(call := bench.infer("ada")) == Code.OK
    assert (call.response.model_version, call.trailers["cutover-arm"]) == ("1", "holdout")
    before = bench.plane.pipeline.routes[b"m"]
    bench.plane.apply(Snapshot(epoch=9, releases=(Release("m", bench.epoch, policy),), pools=pools))
    assert bench.plane.pipeline.routes[b"m"] is before, "what the configuration says is no matter"


async def test_a_dropped_version_finishes_what_it_has_and_is_let_go(bench: PlaneBench) -> None:
    hold: list[Frame] = []

    def keep(asked: Frame) -> None:
        hold.append(asked)

    address = await bench.start("a", answer=keep)
    bench.apply(Policy(1), version(1, address))
    call = bench.infer()
    await until(lambda: hold)
    bench.apply(Policy(2), version(2, await bench.start("b")))
    bench.plane.report(0)
    assert not call.closed
    assert bench.plane.pool("m", 1) is not None, "not before its last answer"
    for writer in bench.workers["a"]._writers:
        writer.write(echo(hold[0]))
    assert await bench.answered(call) == Code.OK
    assert call.response.model_version == "1"
    report = bench.plane.report(0)
    assert [(batches.version, batches.rows) for batches in report.batches] == [(1, 1)]
    assert bench.plane.pool("m", 1) is None
    await until(lambda: not bench.workers["a"]._writers)


async def test_a_worker_that_left_the_snapshot_still_answers_what_it_has(bench: PlaneBench) -> None:
    first = await bench.start("a", answer=lambda _: None)
    bench.apply(Policy(1), version(1, first))
    late = bench.infer(deadline_s=monotonic() + 1000)
    await until(lambda: bench.workers["a"].seen)
    bench.apply(Policy(1), version(1, await bench.start("b")))
    assert await bench.answered(bench.infer()) == Code.OK
    assert len(bench.workers["b"].seen) == 1
    for lane in bench.plane._lanes.values():
        lane.sweep(monotonic() + 2000)
    assert late.code == Code.DEADLINE_EXCEEDED, "the sweep still sees it"
    await bench.workers["a"].stop()
    await until(lambda: bench.plane.in_flight == 0)


async def test_a_request_whose_worker_dies_is_answered_by_its_successor(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1, await bench.start("a", answer=lambda _: b"")))
    call = bench.infer()
    await until(lambda: not bench.plane.ready("m", 1) and bench.workers["a"].seen)
    await bench.workers["a"].stop()
    bench.apply(Policy(1), version(1, await bench.start("b")))
    assert await bench.answered(call) == Code.OK
    assert bench.plane.report(0).retries == 1
    assert bench.plane.report(0).retries == 0


async def test_a_worker_whose_connection_ended_is_called_again(
    bench: PlaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sent garbage and its connection was closed; it lives on and the snapshot still names it."""
    monkeypatch.setattr(planes, "RECONNECT_S", 0.01)

    def garbage_first(asked: Frame) -> bytes:
        good = len(bench.workers["a"].seen) > 1
        return echo(asked) if good else wire.HEADER.pack(0, asked.number + 5, wire.RESULT, 0, 0, 0)

    bench.apply(Policy(1), version(1, await bench.start("a", answer=garbage_first)))
    assert await bench.answered(bench.infer()) == Code.OK
    assert bench.workers["a"].connections == 2


async def test_a_worker_that_cannot_be_reached_is_tried_again(
    bench: PlaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "RECONNECT_S", 0.01)
    bench.apply(Policy(1), version(1, str(bench.folder / "a")))
    call = bench.infer()
    await until(lambda: not bench.plane._connecting)
    assert not bench.plane.settled
    await bench.start("a")
    assert await bench.answered(call) == Code.OK


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("anything")])
@pytest.mark.parametrize("step", ["socket", "offer"])
async def test_a_worker_is_tried_again_whatever_went_wrong(
    bench: PlaneBench, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    monkeypatch.setattr(planes, "RECONNECT_S", 0.01)
    failures = [error]

    def fails_once(real: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object) -> object:
            if failures:
                raise failures.pop()
            return real(*given)

        return called

    if step == "socket":
        made = SimpleNamespace(AF_UNIX=socket.AF_UNIX, socket=fails_once(socket.socket))
        monkeypatch.setattr(planes, "socket", made)
    else:
        monkeypatch.setattr(bench.plane._sharing, "offer", fails_once(bench.plane._sharing.offer))
    bench.apply(Policy(1), version(1, await bench.start("a")))
    assert await bench.answered(bench.infer()) == Code.OK
    assert not failures


async def test_nobody_calls_again_who_is_not_named_any_more(bench: PlaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "RECONNECT_S", 0.0)
    bench.apply(Policy(1), version(1, str(bench.folder / "nowhere")))
    bench.apply(Policy(1), version(1))
    await until(lambda: not bench.plane._connecting)
    assert not any(bench.plane._channels["m", 1, False].values())


async def test_a_release_may_name_a_version_whose_pool_is_not_known_yet(bench: PlaneBench) -> None:
    bench.apply(Policy(1, standby=2))
    before = bench.plane.settled
    call = bench.infer()
    assert (call.code, call.text) == (Code.UNAVAILABLE, "m version 1 is not ready: it is loading")
    bench.apply(Policy(1), version(1, state="failed", error="not a model", inputs=(), outputs=()))
    assert (before, bench.plane.settled) == (False, False), "nobody can answer"
    call = bench.infer()
    assert (call.code, call.text) == (Code.UNAVAILABLE, "m version 1 is not ready: not a model")
    bench.apply(Policy(1), version(1, await bench.start("a")))
    assert await bench.answered(bench.infer()) == Code.OK


async def test_copies_go_to_the_shadows_of_the_snapshot(bench: PlaneBench) -> None:
    compare = {"answer": lambda asked: compared(asked.number, asked.rows, asked.rows)}
    live, shadow = await bench.start("a"), await bench.start("s", **compare)
    bench.apply(Policy(1, shadows=(Shadow(2, 1.0), Shadow(3, 1.0))), version(1, live), version(2, shadow, shadow=True))
    await until(lambda: bench.workers["s"].connections)
    assert await bench.answered(bench.infer()) == Code.OK
    await until(lambda: bench.workers["s"].seen)
    lane = bench.plane._shadows["m", 2, True]
    await until(lambda: lane.idle)
    report = bench.plane.report(3, held_bytes=99)
    assert [(s.version, s.copies, s.compared, s.agreed) for s in report.shadows] == [(2, 1, 1, 1)]
    assert {(b.version, b.shadow) for b in report.batches} == {(1, False), (2, True)}
    assert (report.connections, report.held_bytes) == (3, 99)
    bench.apply(Policy(1), version(1, live))
    assert await bench.answered(bench.infer()) == Code.OK
    bench.plane.report(0)
    assert bench.plane._shadows == {}
    assert len(bench.workers["s"].seen) == 1


async def test_copies_are_held_while_no_core_is_free(bench: PlaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    free_cores = 0.0

    def look(*, queued: bool) -> Sample:
        return Sample(free_cores, 2, 0.1, queued, throttled=False)

    monkeypatch.setattr(bench.plane._cores, "look", look)
    monkeypatch.setattr(mirrors, "TRICKLE_US", 0)
    compare = {"answer": lambda asked: compared(asked.number, asked.rows, asked.rows)}
    live, shadow = await bench.start("a"), await bench.start("s", **compare)
    pools = (version(1, live), version(2, shadow, shadow=True))
    bench.plane.sweep()
    assert not bench.plane._held(), "without a shadow nobody looks"
    bench.apply(Policy(1, shadows=(Shadow(2, 1.0),)), *pools)
    await until(lambda: bench.workers["s"].connections)
    while not bench.plane._held():
        bench.plane.sweep()
    lane = bench.plane._shadows["m", 2, True]
    for _ in range(2):
        assert await bench.answered(bench.infer()) == Code.OK
    await until(lambda: lane.queued == 2)
    assert bench.workers["s"].seen == []

    free_cores = 2.0
    monkeypatch.setattr(planes, "monotonic", lambda: monotonic() + MAX_HOLD_S)
    while bench.plane._held():
        bench.plane.sweep()
    await until(lambda: lane.idle)
    (report,) = bench.plane.report(0).shadows
    assert (report.copies, report.compared, report.dropped) == (2, 2, 0)


async def test_a_request_that_waits_for_a_worker_holds_copies_at_once(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1))
    assert not bench.plane._held()
    call = bench.infer()
    assert bench.plane._held()
    call.cancel()
    bench.plane.sweep()
    assert not bench.plane._held()


async def test_after_a_flip_only_the_new_version_is_copied(bench: PlaneBench) -> None:
    compare = {"answer": lambda asked: compared(asked.number, asked.rows, asked.rows)}
    pools = (
        version(1, await bench.start("a")),
        version(2, await bench.start("b")),
        version(3, await bench.start("s", **compare), shadow=True),
    )
    bench.apply(Policy(1, standby=2, shadows=(Shadow(3, 1.0),)), *pools)
    bench.apply(Policy(2, standby=1, shadows=(Shadow(3, 1.0),)), *pools)
    await until(lambda: bench.workers["s"].connections)
    old = FakeCall(infer((1, 2), model_version="1"), arrived_s=monotonic())
    bench.plane.pipeline.infer(old)
    assert await bench.answered(old) == Code.OK
    assert await bench.answered(bench.infer()) == Code.OK
    await until(lambda: bench.plane._shadows["m", 3, True].idle)
    (report,) = bench.plane.report(0).shadows
    assert report.copies == 1


async def test_whoever_asks_hears_when_what_is_ready_may_have_changed(bench: PlaneBench) -> None:
    heard: list[bool] = []
    bench.plane.on_change = lambda: heard.append(bench.plane.ready("m", 1))
    bench.apply(Policy(1), version(1, await bench.start("a")))
    await until(lambda: bench.plane.ready("m", 1) and bench.workers["a"].connections)
    await bench.workers["a"].stop()
    await until(lambda: not bench.plane.ready("m", 1))
    assert [heard[0], True in heard, heard[-1]] == [False, True, False], "the snapshot, its worker, the worker's end"


async def test_reports_are_increments_and_gauges(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1))
    waiting = bench.infer()
    bench.infer().cancel()
    assert bench.infer(deadline_s=0.0).code == Code.DEADLINE_EXCEEDED
    await sleep(0)
    report = bench.plane.report(7)
    assert (report.in_flight, report.queued, report.connections) == (2, {"m": 2}, 7)
    assert [(s.arm, s.codes) for s in report.series] == [("stable", {Code.DEADLINE_EXCEEDED: 1})]
    bench.plane.sweep()
    bench.apply(Policy(1), version(1, await bench.start("a")))
    assert await bench.answered(waiting) == Code.OK
    report = bench.plane.report(0)
    assert (report.in_flight, report.queued.get("m", 0)) == (0, 0)
    assert [(s.arm, s.codes) for s in report.series] == [("stable", {Code.OK: 1, Code.CANCELLED: 1})]


async def test_a_route_is_compiled_again_only_when_its_release_has_changed(bench: PlaneBench) -> None:
    def apply(**revisions: int) -> dict[bytes, Route]:
        bench.epoch += 1
        releases = tuple(Release(model, revision, Policy(1)) for model, revision in revisions.items())
        bench.plane.apply(Snapshot(epoch=bench.epoch, releases=releases, assignments=assignments))
        return dict(bench.plane.pipeline.routes)

    assignments: dict[str, Assignment] = {}
    first = apply(m=1, n=1)
    second = apply(m=1, n=2)
    assert second[b"m"] is first[b"m"]
    assert (second[b"n"] is first[b"n"], second[b"n"].revision) == (False, 2)
    assignments = {"m": Assignment(allow_forced=False)}
    third = apply(m=1, n=2)
    assert (third[b"m"] is second[b"m"], third[b"n"] is second[b"n"]) == (False, True)
    apply(n=2)
    bench.plane.report(0)
    fourth = apply(m=1, n=2)
    assert fourth[b"m"].stable.lane is bench.plane._lanes["m", 1, False], "the old lane has been dropped meanwhile"


async def test_a_pool_that_has_not_changed_is_left_alone(bench: PlaneBench) -> None:
    address = await bench.start("a")
    bench.apply(Policy(1), version(1, address))
    await until(lambda: bench.plane.ready("m", 1))
    bench.apply(Policy(1, standby=2), version(1, address))
    assert await bench.answered(bench.infer()) == Code.OK
    assert bench.workers["a"].connections == 1


async def test_the_sweep_looks_only_at_lanes_that_have_work(bench: PlaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[str] = []
    sweep = Lane.sweep

    def noted(lane: Lane, now_s: float) -> None:
        swept.append(lane.pool.model)
        sweep(lane, now_s)

    monkeypatch.setattr(Lane, "sweep", noted)
    bench.epoch += 1
    releases = tuple(Release(model, 1, Policy(1)) for model in "mno")
    bench.plane.apply(Snapshot(epoch=bench.epoch, releases=releases, pools=(version(1),)))
    bench.plane.sweep()
    call = bench.infer(deadline_s=monotonic() + 1000)
    await sleep(0)
    bench.plane.sweep()
    assert swept == ["m"]
    call.cancel()
    bench.plane.sweep()
    bench.plane.sweep()
    assert swept == ["m", "m"], "it is idle again"
    assert call.closed


async def test_a_model_that_is_no_longer_released_is_not_found(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1))
    waiting = bench.infer()
    bench.apply(None)
    assert bench.infer().code == Code.NOT_FOUND
    assert bench.plane.settled
    for lane in bench.plane._lanes.values():
        lane.sweep(monotonic())
        lane.sweep(monotonic() + 100)
    assert waiting.code == Code.UNAVAILABLE
    await sleep(0)
    bench.plane.report(0)
    assert bench.plane._lanes == {}


async def test_a_proxy_is_settled_when_one_model_can_answer_and_none_is_loading(bench: PlaneBench) -> None:
    def apply(policy: Policy, *pools: Pool) -> bool:
        bench.epoch += 1
        releases = Release("m", 1, policy), Release("n", 1, Policy(1))
        bench.plane.apply(Snapshot(epoch=bench.epoch, releases=releases, pools=pools))
        return bench.plane.settled

    good = version(1, await bench.start("a"))
    failed = Pool("n", 1, shadow=False, state="failed", error="not a model")
    loading = Pool("m", 2, shadow=False, state="loading")
    canary = Policy(1, canaries=(Canary(2, (Range(0, 1),)),))
    assert not apply(Policy(1), good, Pool("n", 1, shadow=False, state="loading")), "the start is not over"
    apply(Policy(1), good, failed)
    await until(lambda: bench.plane.ready("m", 1))
    assert bench.plane.settled, "one that failed does not take the other out of service"
    assert apply(canary, good, loading, failed), "what comes later makes nobody unready"
    assert apply(canary, good, version(2, state="loading"), failed), "it was ready once; its worker is coming back"
    assert apply(canary, good, version(2, state="failed"), failed)
    assert not apply(Policy(2), good, version(2, state="failed"), failed), "no stable version can answer"


@pytest.mark.parametrize(("above_bytes", "offers"), [(Settings().shared_tensors_above_bytes, 1), (0, 0)])
async def test_memory_is_offered_to_workers_unless_told_not_to(tmp_path: Path, above_bytes: int, offers: int) -> None:
    bench = PlaneBench(tmp_path, Settings(shared_tensors_above_bytes=above_bytes))
    bench.apply(Policy(1), version(1, await bench.start("a")))
    assert await bench.answered(bench.infer()) == Code.OK
    assert bench.workers["a"].offers == offers
    await bench.stop()


async def test_shared_memory_nobody_needs_is_given_back_now_and_then(
    bench: PlaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(Policy(1), version(1, await bench.start("a")))
    await until(lambda: bench.plane.ready("m", 1))
    tidied: list[Channel] = []

    def tidy(channel: Channel) -> None:
        tidied.append(channel)

    monkeypatch.setattr(Channel, "tidy", tidy)
    bench.plane.sweep()
    assert tidied == []
    monkeypatch.setattr(planes, "TIDY_S", 0.0)
    bench.plane.sweep()
    assert len(tidied) == 1
