import pytest

from gateway.dataplane.backlog import PUSHBACKS_MS, Backlog, pushback_ms


def answered(backlog: Backlog) -> None:
    """Batches that cost 1 ms, and 0.1 ms for each row."""
    for rows in (1, 10, 64):
        backlog.answered(rows, 1_000 + 100 * rows)


def test_without_a_warm_up_nothing_is_known_before_the_first_answer() -> None:
    assert Backlog(64).row_s == 0


def test_a_row_costs_its_share_of_a_full_batch() -> None:
    backlog = Backlog(50)
    answered(backlog)
    assert backlog.row_s == pytest.approx((100 + 1_000 / 50) / 1e6)


def test_workers_share_what_waits() -> None:
    backlog = Backlog(50)
    answered(backlog)
    backlog.share(50, 4)
    assert backlog.row_s == pytest.approx((100 + 1_000 / 50) / 4e6)
    backlog.share(50, 0)
    assert backlog.row_s == pytest.approx((100 + 1_000 / 50) / 1e6), "none: it is not known how many will come"


def test_batches_that_could_not_grow_make_rows_dearer() -> None:
    backlog = Backlog(64)
    for _ in range(100):
        backlog.cut(1, left=True)
    answered(backlog)
    assert backlog.row_s == pytest.approx(1_100 / 1e6, rel=0.01)


def test_another_limit_of_the_batch_is_believed_at_once() -> None:
    backlog = Backlog(64)
    backlog.share(1, 1)
    answered(backlog)
    assert backlog.row_s == pytest.approx(1_100 / 1e6)


def test_what_warm_up_measured_counts_at_once() -> None:
    backlog = Backlog(100, [(1, 1_100), (100, 11_000)])
    assert backlog.row_s == pytest.approx(110 / 1e6, rel=0.01)


@pytest.mark.parametrize(("wait_s", "ms"), [(0.0, 10), (0.011, 20), (0.05, 50), (3.0, 5000), (99.0, PUSHBACKS_MS[-1])])
def test_few_pushbacks_are_told(wait_s: float, ms: int) -> None:
    assert pushback_ms(wait_s) == ms


def test_a_larger_batch_tells_even_if_it_left_nobody_behind() -> None:
    backlog = Backlog(64, [(1, 20_000), (64, 20_000)])
    for _ in range(100):
        backlog.cut(3, left=True)
    backlog.answered(3, 20_000)
    slow_s = backlog.row_s
    for _ in range(100):
        backlog.cut(2, left=False)
    backlog.answered(2, 20_000)
    assert backlog.row_s == pytest.approx(slow_s, rel=0.01), "few came: that says nothing"
    for _ in range(100):
        backlog.cut(40, left=False)
    backlog.answered(40, 20_000)
    assert backlog.row_s == pytest.approx(20e-3 / 40, rel=0.1)
