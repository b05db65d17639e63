from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.h2.outgoing import PIECE_OVERHEAD_BYTES, Outgoing
from tests.unit.gateway.transport.h2.peer import message


@given(
    st.lists(st.binary(max_size=40) | st.just(bytes(1100)), max_size=6),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_messages_leave_in_order_in_pieces_of_any_size(bodies: list[bytes], sizes: list[int]) -> None:
    outgoing, sent = Outgoing(1), b""
    for body in bodies:
        outgoing.add(body)
    whole = b"".join(map(message, bodies))
    while outgoing.left_bytes:
        size = min(sizes[len(sent) % len(sizes)], outgoing.left_bytes)
        piece = b"".join(outgoing.take(size))
        assert len(piece) == size
        sent += piece
    assert (sent, outgoing.sent_bytes, outgoing.held_bytes) == (whole, len(whole), 0)


def test_a_message_counts_whole_until_its_last_byte_has_left() -> None:
    outgoing = Outgoing(1)
    outgoing.add(bytes(100))
    outgoing.add(bytes(5000), compressed=True)
    assert outgoing.held_bytes == 105 + 5 + 5000 + 3 * PIECE_OVERHEAD_BYTES
    outgoing.take(104)
    assert (outgoing.left_bytes, outgoing.held_bytes) == (5006, 5110 + 3 * PIECE_OVERHEAD_BYTES)
    assert b"".join(outgoing.take(2)) == b"\0\1"
    assert outgoing.held_bytes == 5005 + 2 * PIECE_OVERHEAD_BYTES


def test_what_is_dropped_is_gone() -> None:
    outgoing = Outgoing(1)
    outgoing.add(b"abc")
    outgoing.take(1)
    outgoing.clear()
    assert (outgoing.left_bytes, outgoing.held_bytes, outgoing.sent_bytes) == (0, 0, 1)
