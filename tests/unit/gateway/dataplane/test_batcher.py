from math import inf
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import batcher
from gateway.dataplane.batcher import Batcher, Taken, held_until_s
from gateway.dataplane.cost import Cost
from gateway.dataplane.job import Job, Ranked
from gateway.dataplane.waiting import Waiting
from gateway.routing.snapshot import Tensor
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, floats, job_of

LANE = LaneBench(inputs=(Tensor("X", "FP32", (-1, -1)),), outputs=(Tensor("Y", "FP32", (-1, -1)),)).lane
NOW_S = 1000.0


def job(rows: int = 1, *, width: int = 2, deadline_s: float = inf, who: str = "") -> Job:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="X", datatype="FP32", shape=[rows, width])
    message.raw_input_contents.append(floats(*[0.0] * rows * width))
    return Ranked(job_of(LANE, FakeCall(message.SerializeToString(), deadline_s=deadline_s)), 0, who)


def waiting(*jobs: Job) -> Waiting:
    made = Waiting(1)
    for each in jobs:
        made.append(each)
    return made


def line(row_us: float, start_us: float) -> Cost:
    cost = Cost()
    cost.row_us, cost.start_us = row_us, start_us
    return cost


def take(queue: Waiting, most: int = 64, preferred: tuple[int, ...] = (), cost: Cost | None = None) -> Taken:
    return Batcher(most, preferred, cost or Cost()).take(queue, NOW_S, 0.0)


def test_a_batch_has_as_many_rows_as_are_there_and_fit() -> None:
    queue = waiting(*[job(rows) for rows in (3, 2, 4, 1)])
    taken = take(queue, most=8)
    assert ([each.plan.rows for each in taken.jobs], taken.rows) == ([3, 2], 5)
    assert (len(queue), queue.rows) == (2, 5)


def test_others_of_the_same_shape_are_found_behind_those_that_differ() -> None:
    first, wide, second, wider = job(), job(width=3), job(), job(width=4)
    queue = waiting(first, wide, second, wider)
    assert take(queue).jobs == [first, second]
    assert list(queue) == [wide, wider]


def test_the_search_behind_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "LOOK_AHEAD", 2)
    near, far = job(), job()
    queue = waiting(job(), job(width=3), near, job(width=4), far)
    assert len(take(queue).jobs) == 2
    assert far in list(queue)


def test_late_jobs_in_front_come_out_apart() -> None:
    late, left, well = job(deadline_s=NOW_S), job(), job()
    cast("FakeCall", left.call).cancel()
    queue = waiting(late, left, well)
    taken = take(queue)
    assert (taken.jobs, taken.rows, taken.late) == ([well], 1, [late, left])
    assert (len(queue), queue.rows) == (0, 0)


def test_only_late_jobs_make_no_batch() -> None:
    queue = waiting(job(deadline_s=1.0), job(deadline_s=2.0))
    taken = take(queue)
    assert (taken.jobs, taken.rows, len(taken.late), len(queue)) == ([], 0, 2, 0)


def test_a_batch_is_as_large_as_the_tightest_deadline_allows() -> None:
    """10 ms and 1 ms a row: what has 50.5 ms left can be one of 40 rows."""
    queue = waiting(*[job() for _ in range(9)], job(deadline_s=NOW_S + 0.0505), *[job() for _ in range(50)])
    assert take(queue, cost=line(1_000, 10_000)).rows == 40


def test_the_first_jobs_deadline_counts_like_any_other() -> None:
    queue = waiting(job(deadline_s=NOW_S + 0.0505), *[job() for _ in range(59)])
    assert take(queue, cost=line(1_000, 10_000)).rows == 40


def test_what_is_in_front_at_the_worker_shortens_the_time() -> None:
    queue = waiting(job(deadline_s=NOW_S + 0.0705), *[job() for _ in range(59)])
    assert Batcher(64, (), line(1_000, 10_000)).take(queue, NOW_S, 20_000.0).rows == 40


def test_a_deadline_that_would_cost_more_than_half_of_a_batch_is_not_waited_for() -> None:
    queue = waiting(job(deadline_s=NOW_S + 0.012), *[job() for _ in range(99)])
    assert take(queue, cost=line(1_000, 10_000)).rows == 64


def test_no_batch_is_larger_than_is_of_use() -> None:
    """10 ms a row and 1 ms a batch: two rows are nearly as cheap, each, as 64, and make nobody wait."""
    cost = Cost([(1, 11_000), (64, 641_000)])
    assert take(waiting(*[job() for _ in range(64)]), cost=cost).rows == 2
    assert take(waiting(*[job() for _ in range(64)]), preferred=(32,), cost=cost).rows == 32
    largest = Batcher(64, (), cost, largest=True)
    assert largest.take(waiting(*[job() for _ in range(64)]), NOW_S, 0.0).rows == 64
    slow = Cost([(1, 100_000), (64, 6_400_000)])
    assert take(waiting(*[job() for _ in range(64)]), cost=slow).rows == 1


def test_a_batch_is_held_back_for_the_shortest_time_anybody_allows() -> None:
    jobs = [job() for _ in range(4)]
    for each, arrived_s in zip(jobs, (3.0, 1.0, 2.0, 4.0), strict=True):
        cast("FakeCall", each.call).arrived_s = arrived_s
    assert held_until_s(jobs, 10.0, 0.5) == 11.0
    jobs[0].deadline_s = 11.0
    assert held_until_s(jobs, 10.0, 0.5) == 9.0, "a quarter of the time given is kept"
    assert held_until_s(jobs, 10.0, 2.0) == 7.0, "or twice the run"


def test_preferred_sizes_are_filled_as_far_as_there_are_rows() -> None:
    for rows, size in ((3, 3), (4, 4), (7, 4), (8, 8), (40, 8)):
        queue = waiting(*[job() for _ in range(rows)])
        assert take(queue, preferred=(4, 8)).rows == size


def test_no_size_is_preferred_that_does_not_fit() -> None:
    assert Batcher(16, (4, 8, 32), Cost()).full == 4
    assert Batcher(16, (32,), Cost()).full == 16


def test_jobs_of_several_who_ask_share_a_batch() -> None:
    queue = waiting(*[job(who="a") for _ in range(30)], *[job(who="b") for _ in range(3)])
    assert sorted({each.who for each in take(queue, most=6).jobs}) == ["a", "b"]


def test_those_who_ask_for_other_shapes_leave_batches_as_large() -> None:
    jobs = [job(width=2 + number % 2, who="ab"[number % 2]) for number in range(128)]
    queue, sizes = waiting(*jobs), []
    while queue:
        sizes.append(take(queue, most=8).rows)
    assert sizes == [8] * 16


def test_who_has_many_of_one_shape_does_not_hold_up_who_has_few_of_another() -> None:
    queue = waiting(*[job(who="flood") for _ in range(100)], guest := job(width=3, who="guest"))
    assert guest in take(queue, most=8).jobs + take(queue, most=8).jobs


def test_the_search_among_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "LOOK_AHEAD", 4)
    queue = waiting(job(who="a"), job(width=3, who="b"), *[job(who=f"guest {n}") for n in range(50)])
    assert 1 < len(take(queue).jobs) <= 1 + 4


deadlines_s = st.sampled_from([inf, NOW_S, NOW_S + 0.01])
kinds_of_jobs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 3), deadlines_s, st.sampled_from("ab ")), max_size=40
)


@given(kinds_of_jobs, st.integers(1, 9), st.sampled_from([(), (2, 4)]))
def test_every_job_comes_out_once_and_no_batch_joins_what_cannot_be_joined(
    kinds: list[tuple[int, int, float, str]], most: int, preferred: tuple[int, ...]
) -> None:
    jobs = [job(rows, width=width, deadline_s=by_s, who=who.strip()) for rows, width, by_s, who in kinds]
    queue = waiting(*jobs)
    out: list[Job] = []
    while len(queue):
        before = len(queue)
        taken = take(queue, most, preferred, line(1_000, 1_000))
        assert len({each.plan.joins for each in taken.jobs}) <= 1
        assert taken.rows == sum(each.plan.rows for each in taken.jobs)
        assert taken.rows <= most or len(taken.jobs) == 1
        assert all(each.plan.rows for each in taken.jobs) or len(taken.jobs) == 1
        assert len(queue) < before
        out += taken.jobs + taken.late
        assert queue.rows == sum(each.plan.weight for each in queue)
    assert sorted(map(id, out)) == sorted(map(id, jobs))
