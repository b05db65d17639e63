"""Tests of `workers.wire`."""

from math import ceil, inf

from hypothesis import given
from hypothesis import strategies as st

from workers import wire


def test_sizes_are_those_of_the_contract() -> None:
    assert (wire.HEADER.size, wire.SECTION.size, wire.SIZE.size, wire.COMPARISON.size) == (16, 12, 4, 24)


def test_a_section_is_head_sizes_signature_tensors() -> None:
    tensor = bytes(4)
    pieces = wire.section(b'[["X","FP32",[]]]', 1, [tensor])
    assert (
        b"".join(pieces)
        == b'\x11\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00[["X","FP32",[]]]\x00\x00\x00\x00'
    )
    assert pieces[-1] is tensor


def test_kinds_and_flags_lie_where_the_contract_says() -> None:
    header = wire.HEADER.pack(0, 0, wire.BEGUN, wire.TELL, 0, 0)
    assert (header[wire.KIND_AT], header[wire.FLAGS_AT]) == (wire.BEGUN, wire.TELL)


@given(st.floats(0.0, 1e8), st.floats(0.0, 2_000_000.0), st.floats(0.0, 2_000_000.0))
def test_a_deadline_is_late_when_its_time_has_come(now_s: float, left_s: float, passed_s: float) -> None:
    """Over many turns of the clock on the wire, which has 49 days."""
    deadline_s = now_s + left_s
    field = wire.deadline_ms(deadline_s, now_s)
    assert 0 < field < 1 << 32
    assert wire.is_late(field, deadline_s + passed_s + 0.0011)
    early_s = ceil(deadline_s * 1000) / 1000 - 0.0011
    assert early_s < now_s or not wire.is_late(field, early_s)


@given(st.floats(0.0, 1e8))
def test_what_is_late_on_the_wire_is_late_by_the_clock(deadline_s: float) -> None:
    field = wire.deadline_ms(deadline_s, deadline_s)
    for now_s in (deadline_s - 0.001, deadline_s - 1e-7, deadline_s, deadline_s + 0.0005):
        if wire.is_late(field, now_s):
            assert now_s >= deadline_s


@given(st.floats(0.0, 1e8), st.floats(0.0, 1e8))
def test_without_a_deadline_nothing_is_late(now_s: float, later_s: float) -> None:
    assert wire.deadline_ms(inf, now_s) == wire.deadline_ms(now_s + 2**31 / 1000 + 1, now_s) == 0
    assert not wire.is_late(0, later_s)


def test_no_deadline_is_written_as_none() -> None:
    assert wire.deadline_ms((1 << 32) / 1000 - 0.001, 4_000_000.0) == 1
