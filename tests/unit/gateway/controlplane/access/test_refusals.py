"""Refusals are told, and a flood of them is counted."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.access.refusals import MAX_CALLERS, WINDOW_MS, Refusal, Refusals
from gateway.controlplane.audit import REFUSAL, Draft


def refusal(time_ms: int, caller: str = "token:ci", why: str = "flip needs operator") -> Refusal:
    return Refusal(time_ms, caller, "flip", "iris", why)


def test_the_first_is_told_at_once_and_the_others_when_the_minute_is_over() -> None:
    refusals = Refusals()
    first = refusals.refused(refusal(1_000))
    assert first == Draft(1_000, "token:ci", "flip", "iris", 0, "flip needs operator", "", "", "", REFUSAL)
    assert refusals.refused(refusal(2_000)) is None
    assert refusals.refused(refusal(3_000, why="last")) is None
    assert list(refusals.due(1_000 + WINDOW_MS - 1)) == []
    (later,) = refusals.due(1_000 + WINDOW_MS)
    assert (later.time_ms, later.reason) == (3_000, "2 more refusals within a minute, the last: last")
    assert refusals.refused(refusal(70_000)) is not None


def test_a_minute_without_repeats_ends_in_silence() -> None:
    refusals = Refusals()
    refusals.refused(refusal(0))
    assert list(refusals.due(WINDOW_MS)) == []
    assert refusals.refused(refusal(WINDOW_MS)) is not None


def test_a_clock_that_is_set_back_ends_the_minute() -> None:
    refusals = Refusals()
    refusals.refused(refusal(1_000_000))
    refusals.refused(refusal(1_000_001))
    assert [event.reason[:14] for event in refusals.due(5)] == ["1 more refusal"]


def test_what_is_left_is_told_at_the_end() -> None:
    refusals = Refusals()
    for time_ms in range(3):
        refusals.refused(refusal(time_ms))
    assert [event.reason[:6] for event in refusals.rest()] == ["2 more"]
    assert list(refusals.rest()) == []


def test_texts_are_cut() -> None:
    told = Refusals().refused(refusal(0, caller="x" * 5_000, why="y" * 5_000))
    assert told is not None
    assert len(told.actor) + len(told.reason) < 1_000


steps = st.lists(
    st.tuples(st.integers(0, WINDOW_MS // 4), st.integers(0, 60), st.integers(1, 30), st.booleans()), max_size=60
)


@given(steps)
def test_none_is_forgotten_and_a_minute_has_only_so_many_events(steps: list[tuple[int, int, int, bool]]) -> None:
    refusals, now_ms, sent, told, times = Refusals(), 0, 0, 0, []
    for wait_ms, caller, count, look in steps:
        now_ms += wait_ms
        events = list(refusals.due(now_ms)) if look else []
        for _ in range(count):
            sent += 1
            events += filter(None, [refusals.refused(refusal(now_ms, f"token:{caller}"))])
        told += sum(weight(event) for event in events)
        times += [now_ms] * len(events)
    told += sum(weight(event) for event in refusals.rest())
    assert told == sent
    for start in times:
        within = [time for time in times if start <= time < start + WINDOW_MS]
        assert len(within) <= 4 * (MAX_CALLERS + 1)


def weight(event: Draft) -> int:
    """How many refusals an event stands for."""
    return int(event.reason.partition(" more refusal")[0]) if " more refusal" in event.reason else 1


def test_what_a_store_cannot_keep_is_left_out_and_the_refusal_is_told() -> None:
    told = Refusals().refused(refusal(0, why="flip needs operator of a\0b\n"))
    assert told is not None
    assert told.reason == "flip needs operator of a b "
