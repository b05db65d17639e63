from math import log2

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.again import Again
from gateway.dataplane.job import Job
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of


def jobs(count: int) -> list[Job]:
    lane = LaneBench().lane
    return [job_of(lane, FakeCall(infer((value, value)))) for value in range(count)]


def parties(again: Again) -> list[list[Job]]:
    return [party.jobs for party in reversed(again.parties)]


def test_halves_come_before_everything_else_and_in_order() -> None:
    a, b, c, d = jobs(4)
    again = Again()
    again.together([d])
    again.halves([a, b, c])
    assert len(again) == 4
    assert parties(again) == [[a, b], [c], [d]]


def test_nobody_is_no_party() -> None:
    again = Again()
    for put in (again.halves, again.singles, again.together):
        put([])
    assert (len(again), parties(again)) == (0, [])


def test_whose_worker_died_is_run_alone_and_suspect() -> None:
    a, b, c = jobs(3)
    again = Again()
    again.halves([c])
    again.singles([a, b])
    assert [(party.suspect, party.jobs) for party in reversed(again.parties)] == [
        (True, [a]),
        (True, [b]),
        (False, [c]),
    ]


def test_who_does_not_wait_any_more_is_forgotten() -> None:
    a, b, c = jobs(3)
    again = Again()
    again.halves([a, b, c])
    again.sift(lambda job: job is b)
    assert (len(again), parties(again)) == (1, [[b]])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 64), st.data())
def test_a_culprit_is_found_in_as_many_runs_as_halving_takes(count: int, data: st.DataObject) -> None:
    made = jobs(count)
    culprit = made[data.draw(st.integers(0, count - 1))]
    again, answered, runs = Again(), [], 0
    again.together(made)
    while again.parties:
        party = again.parties.pop().jobs
        runs += 1
        if culprit not in party:
            answered += party
        elif len(party) > 1:
            again.halves(party)
    assert answered == [job for job in made if job is not culprit]
    assert runs <= 1 + 2 * (log2(count) + 1)
