from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import waiting as waiting_module
from gateway.dataplane.job import Job, Ranked
from gateway.dataplane.waiting import SHARE, Waiting
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of

LANE = LaneBench().lane


def job(who: str = "", rows: int = 1, level: int = 0) -> Job:
    return Ranked(job_of(LANE, FakeCall(infer(*[(0, 0)] * rows))), level, who)


def one(waiting: Waiting) -> Job:
    """Takes the job whose turn it is."""
    line, _ = waiting.turn()
    taken = line.popleft()
    waiting.took(line, 1, taken.plan.weight, taken.plan.weight)
    return taken


def test_few_go_in_the_order_of_arrival() -> None:
    waiting = Waiting(1)
    jobs = [job(rows=rows) for rows in (3, 1, 2)]
    for each in jobs:
        waiting.append(each)
    assert (len(waiting), waiting.rows, list(waiting)) == (3, 6, jobs)
    assert [one(waiting) for _ in jobs] == jobs
    assert (len(waiting), waiting.rows) == (0, 0)


def test_who_has_many_waiting_does_not_hold_up_who_has_few() -> None:
    waiting = Waiting(1)
    for _ in range(20):
        waiting.append(job("flood"))
    late = job("guest")
    waiting.append(late)
    assert late in [one(waiting) for _ in range(2)]


def test_large_requests_count_for_their_rows() -> None:
    waiting = Waiting(1)
    for _ in range(8):
        waiting.append(job("large", rows=8))
    for _ in range(64):
        waiting.append(job("small"))
    rows: Counter[str] = Counter()
    while rows.total() < 64:
        taken = one(waiting)
        rows[taken.who] += taken.plan.rows
    assert abs(rows["large"] - rows["small"]) <= 8


def test_who_comes_back_saves_no_credit_up() -> None:
    waiting = Waiting(1)
    waiting.append(job("guest"))
    for _ in range(30):
        waiting.append(job("steady"))
    for _ in range(20):
        one(waiting)
    for _ in range(10):
        waiting.append(job("guest"))
    assert Counter(one(waiting).who for _ in range(10)) == {"guest": 5, "steady": 5}


def test_who_asks_again_as_soon_as_he_is_served_gets_no_more_than_others() -> None:
    waiting = Waiting(1)
    for _ in range(200):
        waiting.append(job("steady"))
    served: Counter[str] = Counter()
    for _ in range(100):
        if not any(each.who == "again" for each in waiting):
            waiting.append(job("again", rows=4))
        taken = one(waiting)
        served[taken.who] += taken.plan.rows
    assert abs(served["again"] - served["steady"]) <= 8


def test_what_those_were_given_who_have_left_is_kept_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "REMEMBERED", 10)
    waiting = Waiting(1)
    for number in range(100):
        waiting.append(job("steady"))
        waiting.append(job(f"guest {number}"))
    while len(waiting):
        one(waiting)
        assert len(waiting.last._left) <= 10
    assert waiting.last._left == {}


def test_the_higher_priority_goes_first() -> None:
    waiting = Waiting(3)
    low, high, middle = job(level=2), job(level=0), job(level=1)
    for each in (low, high, middle):
        waiting.append(each)
    assert [one(waiting) for _ in range(3)] == [high, middle, low]


def test_rows_before_a_job_are_those_of_its_level_and_above() -> None:
    waiting = Waiting(2)
    waiting.append(job(rows=5, level=1))
    waiting.append(job(rows=3, level=0))
    assert waiting.rows_before(job(level=0)) == 3
    assert waiting.rows_before(job(level=1)) == 8


def test_rows_before_a_newcomer_leave_out_what_others_have_waiting() -> None:
    waiting = Waiting(1)
    waiting.append(job(rows=2))
    for _ in range(50):
        waiting.append(job("flood"))
    assert waiting.rows_before(job("guest")) == 2 + 1, "the flood has one turn before"
    assert waiting.rows_before(job("flood")) == 52
    waiting.append(job("guest"))
    assert waiting.rows_before(job("guest")) == 2 + 2 * 2


def test_every_newcomer_waits_for_all_newcomers_before() -> None:
    waiting = Waiting(1)
    for number in range(100):
        assert waiting.rows_before(job(f"guest {number}")) == number
        waiting.append(job(f"guest {number}"))


def test_room_is_left_for_those_who_have_none_waiting() -> None:
    waiting, limit = Waiting(1), 90
    while waiting.finds_room(job("flood"), limit):
        waiting.append(job("flood"))
    assert len(waiting) == limit * SHARE // (SHARE + 1)
    assert waiting.finds_room(job("guest"), limit)


def test_what_can_be_spared_is_the_newest_of_who_has_most_at_the_lowest_priority() -> None:
    waiting = Waiting(3)
    for each in (few := job("few", level=2)), job("many", level=2), (last := job("many", level=2)), job(level=1):
        waiting.append(each)
    assert waiting.spare(0) is last
    assert (len(waiting), waiting.rows) == (3, 3)
    assert waiting.spare(2) is None, "nobody is spared for his own level"
    assert few in list(waiting)


def test_who_has_most_is_spared_until_others_have_as_many() -> None:
    waiting = Waiting(2)
    for _ in range(20):
        waiting.append(job("a", level=1))
        waiting.append(job("b", level=1))
    spared = Counter(each.who for _ in range(20) if (each := waiting.spare(0)))
    assert spared == {"a": 10, "b": 10}


def test_what_is_not_run_is_not_charged() -> None:
    waiting = Waiting(1)
    for _ in range(4):
        waiting.append(job("late"))
        waiting.append(job("other"))
    line, _ = waiting.turn()
    line.popleft()
    line.popleft()
    waiting.took(line, 2, 2, 0)
    assert Counter(one(waiting).who for _ in range(4)) == {"late": 2, "other": 2}


def test_many_can_be_spared_one_after_the_other() -> None:
    waiting = Waiting(2)
    jobs = [job("many" if number % 2 else f"few {number}", level=1) for number in range(200)]
    for each in jobs:
        waiting.append(each)
    spared = [waiting.spare(0) for _ in jobs]
    assert [each.who for each in spared if each][:99] == ["many"] * 99
    assert sorted(map(id, spared)) == sorted(map(id, jobs))
    assert not waiting
    assert not waiting.last._heap[65:], "what was emptied does not pile up"
    waiting.append(again := job("few 0", level=1))
    assert one(waiting) is again


def test_those_of_the_last_level_stay_in_the_last() -> None:
    waiting = Waiting(1)
    first = job()
    waiting.append(first)
    waiting.relevel(3)
    waiting.append(middle := job(level=1))
    assert [one(waiting), one(waiting)] == [middle, first]


def test_other_levels_keep_the_jobs() -> None:
    waiting = Waiting(1)
    jobs = [job(), job("a"), job("b")]
    for each in jobs:
        waiting.append(each)
    waiting.relevel(4)
    assert (waiting.levels, sorted(map(id, waiting)), waiting.rows) == (4, sorted(map(id, jobs)), 3)
    waiting.relevel(1)
    assert [one(waiting) for _ in jobs] == jobs


names = st.sampled_from(["", "a", "b", "c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), names, st.integers(0, 3), st.integers(0, 2)),
        st.tuples(st.sampled_from(["take", "spare", "sift"]), names, st.integers(0, 3), st.integers(0, 2)),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_each_job_comes_out_once(
    story: list[tuple[str, str, int, int]],
) -> None:
    waiting, inside, out = Waiting(3), set[int](), list[Job]()
    kept: list[Job] = []
    for what, who, rows, level in story:
        if what == "append":
            made = job(who, rows, level)
            kept.append(made)
            inside.add(id(made))
            waiting.append(made)
        elif what == "take" and len(waiting):
            out.append(one(waiting))
            inside.remove(id(out[-1]))
        elif what == "spare" and (spared := waiting.spare(level)) is not None:
            assert spared.level > level
            inside.remove(id(spared))
        elif what == "sift":
            gone = {id(each) for each in waiting if each.who == who}
            inside -= gone
            waiting.sift(lambda each: id(each) not in gone)  # noqa: B023 - called at once
        assert {id(each) for each in waiting} == inside
        assert (len(waiting), waiting.rows) == (len(inside), sum(each.plan.weight for each in waiting))
        assert bool(len(waiting)) == bool(waiting.rows)
    while len(waiting):
        inside.remove(id(one(waiting)))
    assert not inside
    assert not waiting.last.flows
