from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.members import DRIFT, SILENT_S, Pledge, Sighting, lapsed, owing, sight
from gateway.controlplane.store.members import Member, Report

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_S = 10.0


def row(gateway: str = "b", incarnation: str = "1", beat: int = 0, applied: int = 0, lease_s: float = 0.0) -> Member:
    """What the store says of a gateway; `beat` numbers its renewals."""
    report = Report(applied_sequence=applied, lease_ms=round(lease_s * 1000))
    return Member(gateway, incarnation, EPOCH + timedelta(seconds=beat), 0.0, report)


def test_a_row_is_as_old_as_it_has_been_seen_unchanged() -> None:
    found = sight({}, [row()], 100.0)
    found = sight(found, [row(), row("c")], 103.0)
    assert {name: one.since_s for name, one in found.items()} == {"b": 100.0, "c": 103.0}
    assert not found["b"].silent(100.0 + SILENT_S)
    assert found["b"].silent(100.1 + SILENT_S)
    short = sight({}, [row(lease_s=1.0)], 100.0)["b"]
    assert (short.silent(101.0), short.silent(101.01)) == (False, True)


def test_a_renewal_and_another_incarnation_begin_anew() -> None:
    found = sight({}, [row("a"), row("b"), row("c")], 100.0)
    found = sight(found, [row("a", beat=1), row("b", incarnation="2")], 103.0)
    assert {name: one.since_s for name, one in found.items()} == {"a": 103.0, "b": 103.0}, "and who has gone is gone"


def test_who_owes_a_change_and_whose_lease_is_over() -> None:
    rows = [row("a", applied=7, lease_s=LEASE_S), row("b", applied=6, lease_s=LEASE_S), row("c", applied=5)]
    found = sight({}, rows, 100.0)
    late = owing(found.values(), 7)
    assert [one.member.id for one in late] == ["b", "c"]
    over_s = 100.0 + LEASE_S * (1 + DRIFT)
    assert lapsed(late, over_s - 0.001) == []
    assert [one.member.id for one in lapsed(late, over_s)] == ["b"], "who promises nothing is never counted out"


seconds = st.floats(0.001, 30.0)


@given(
    sent=st.floats(0.0, 1e6),
    to_store=seconds,
    to_observer=seconds,
    looks=st.lists(seconds, max_size=8),
    rate=st.floats(1 - DRIFT / 2, 1 + DRIFT / 2 - 1e-6),
    other_rate=st.floats(1 - DRIFT / 2 + 1e-4, 1 + DRIFT / 2),
    offset=st.floats(-1e6, 1e6),
)
def test_whoever_is_counted_out_has_stopped_before(
    sent: float, to_store: float, to_observer: float, looks: list[float], rate: float, other_rate: float, offset: float
) -> None:
    """Two clocks with offsets and rates of their own; the row reaches the observer late, and is looked at again."""
    seen_s = sent + to_store + to_observer
    found = sight({}, [row(lease_s=LEASE_S)], offset + seen_s * other_rate)
    now_s = seen_s
    for look in looks:
        now_s += look
        found = sight(found, [row(lease_s=LEASE_S)], offset + now_s * other_rate)
        if lapsed(found.values(), offset + now_s * other_rate):
            stops_s = sent * rate + LEASE_S  # by its own clock, from before it was sent
            assert now_s * rate >= stops_s - 1e-6


def test_a_gateway_that_is_alone_or_may_serve_on_promises_nothing() -> None:
    alone = Pledge(LEASE_S).renewed(0.0, peers=False)
    assert (alone.held, alone.promised_s) == (False, 0.0)
    serves_on = Pledge(0.0).renewed(0.0, peers=True)
    assert (serves_on.held, serves_on.promised_s) == (False, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_nothing_is_promised_that_proxies_do_not_hold_nor_let_off_while_it_is(steps: list[tuple[bool, bool]]) -> None:
    """At every renewal others are there or not, and it reaches the store or not."""
    pledge, written_s, in_row_s = Pledge(LEASE_S), 0.0, 0.0
    for peers, arrives in steps:
        written_s = pledge.promised_s
        assert not written_s or pledge.held, "the row says what proxies hold"
        if arrives:
            in_row_s = written_s
            pledge = pledge.renewed(written_s, peers=peers)
        assert not in_row_s or pledge.held, "proxies hold what the row says"


def test_a_promise_is_taken_back_in_the_row_before_the_proxies_are_let_off() -> None:
    pledge = Pledge(LEASE_S).renewed(0.0, peers=True)
    assert pledge.promised_s == LEASE_S
    pledge = pledge.renewed(LEASE_S, peers=False)
    assert (pledge.held, pledge.promised_s) == (True, 0.0)
    assert not pledge.renewed(0.0, peers=False).held


def test_a_sighting_that_promises_nothing_never_lapses() -> None:
    assert Sighting(row(), 5.0).lapses_s == float("inf")
