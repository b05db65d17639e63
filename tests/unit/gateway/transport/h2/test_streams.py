import pytest

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood, StreamFault
from gateway.transport.h2.streams import REMEMBERED, Chatter, ResetBudget, Streams


def opened(*stream_ids: int) -> Streams:
    streams = Streams()
    for stream_id in stream_ids:
        streams.open(stream_id)
    return streams


def test_ids_grow() -> None:
    streams = opened(1, 3, 9)
    assert (streams.next_id, streams.last_id, streams.opened) == (11, 9, 3)
    assert Streams().last_id == 0


def test_ids_of_the_server_are_not_for_clients() -> None:
    with pytest.raises(ConnectionFault) as caught:
        opened(2)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_idle() -> None:
    streams = opened(1, 5)
    assert [streams.is_idle(stream_id) for stream_id in (0, 1, 2, 3, 5, 7)] == [True, False, True, False, False, True]


@pytest.mark.parametrize(("stream_id", "code"), [(1, 5), (7, 1), (4, 1)])
def test_frames_on_finished_and_idle_streams(stream_id: int, code: int) -> None:
    with pytest.raises(ConnectionFault) as caught:
        opened(1, 3).meet_closed(stream_id, "DATA")
    assert caught.value.code == code


def test_frames_on_reset_streams() -> None:
    streams = opened(1, 3)
    streams.remember_reset(1, by_us=True)
    streams.remember_reset(3, by_us=False)
    streams.meet_closed(1, "DATA")
    with pytest.raises(StreamFault) as caught:
        streams.meet_closed(3, "DATA")
    assert caught.value.code == ErrorCode.STREAM_CLOSED


def test_skipped_ids_were_never_streams() -> None:
    streams = opened(1, 7)
    for stream_id, code in ((3, ErrorCode.PROTOCOL_ERROR), (5, ErrorCode.PROTOCOL_ERROR), (1, ErrorCode.STREAM_CLOSED)):
        with pytest.raises(ConnectionFault) as caught:
            streams.meet_reused(stream_id)
        assert caught.value.code == code


def test_memory_of_resets_is_bounded() -> None:
    streams = Streams()
    for stream_id in range(1, 4 * REMEMBERED, 2):
        streams.open(stream_id)
        streams.remember_reset(stream_id, by_us=True)
    streams.meet_closed(stream_id, "DATA")
    with pytest.raises(ConnectionFault):
        streams.meet_closed(1, "DATA")


def test_a_reset_for_every_stream_empties_the_budget() -> None:
    budget = ResetBudget(10, 1.0)
    for count in range(1, 20):
        budget.spend(100.0, count)
    with pytest.raises(ConnectionFault) as caught:
        budget.spend(100.0, 20)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_time_and_streams_fill_the_budget_up_to_its_burst() -> None:
    budget = ResetBudget(2, 1.0)
    now_s, count = 100.0, 0
    for _ in range(100):
        count += 2
        budget.spend(now_s, count)  # every second call is cancelled, for ever
    for _ in range(100):
        now_s += 1.0
        budget.spend(now_s, count)  # one a second
    now_s += 1e6
    budget.spend(now_s, count)
    budget.spend(now_s, count)
    with pytest.raises(ConnectionFault):
        budget.spend(now_s, count)


def spend(chatter: Chatter, frames: int, now_s: float, opened: int, sent: int) -> bool:
    """Whether so many frames in a row are allowed."""
    for _ in range(frames):
        chatter.left -= 1
        if chatter.left < 0:
            try:
                chatter.refill(now_s, opened, sent)
            except Flood:
                return False
    return True


def test_chatter_is_limited_unless_something_comes_of_it() -> None:
    chatter = Chatter(100, 10.0)
    assert spend(chatter, 101, 50.0, 0, 0)
    assert spend(chatter, 10, 51.0, 0, 0), "time"
    assert spend(chatter, 16, 51.0, 2, 0), "streams"
    assert spend(chatter, 15, 51.0, 2, 5), "DATA frames sent"
    assert not spend(chatter, 1, 51.0, 2, 5)
    chatter = Chatter(100, 10.0)
    assert spend(chatter, 101, 50.0, 0, 0)
    assert not spend(chatter, 102, 1e6, 10**6, 10**6), "no more than the burst is saved"
