"""Tests of `workers.wire`."""

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
