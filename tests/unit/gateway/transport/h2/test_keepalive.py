"""gRFC A8 and A9: who is asked, who may ask, and how often."""

import pytest

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood
from gateway.transport.h2.keepalive import Keepalive, Strikes
from gateway.transport.h2.limits import Limits


def looks(keepalive: Keepalive, seconds: int) -> list[int]:
    """In which of so many silent seconds a PING is sent."""
    return [second for second in range(1, seconds + 1) if keepalive.look(1.0, heard=False)]


def test_a_silent_peer_is_asked_once_and_then_given_up() -> None:
    keepalive = Keepalive(Limits(keepalive_time_s=60.0, keepalive_timeout_s=20.0))
    assert looks(keepalive, 80) == [61]
    with pytest.raises(ConnectionFault) as caught:
        looks(keepalive, 2)
    assert (caught.value.code, caught.value.reason) == (ErrorCode.NO_ERROR, "keepalive")


def test_any_byte_is_an_answer() -> None:
    keepalive = Keepalive(Limits(keepalive_time_s=60.0, keepalive_timeout_s=20.0))
    assert looks(keepalive, 80) == [61]
    assert not keepalive.look(1.0, heard=True)
    assert looks(keepalive, 80) == [61], "the time runs from the last byte, not from the last PING"


def test_zero_asks_nobody() -> None:
    assert looks(Keepalive(Limits(keepalive_time_s=0.0)), 10_000) == []


def test_the_defaults_are_those_of_grpc_core() -> None:
    limits = Limits()
    assert (limits.keepalive_time_s, limits.keepalive_timeout_s) == (7200.0, 20.0)
    assert (limits.min_ping_interval_s, limits.min_idle_ping_interval_s, limits.max_ping_strikes) == (300.0, 7200.0, 2)


def survives(strikes: Strikes, count: int, every_s: float, *, idle: bool = False) -> bool:
    """Whether so many PINGs pass."""
    try:
        for each in range(count):
            strikes.ping(1000.0 + each * every_s, 0, idle=idle)
    except Flood:
        return False
    return True


@pytest.mark.parametrize(
    ("count", "every_s", "idle", "passes"),
    [
        (3, 0.0, False, True),  # the first is none too soon, then two strikes
        (4, 0.0, False, False),
        (100, 300.0, False, True),
        (4, 299.0, False, False),
        (4, 300.0, True, False),  # without calls two hours are the rule
        (100, 7200.0, True, True),
    ],
)
def test_too_many_pings_are_too_many(count: int, every_s: float, idle: bool, passes: bool) -> None:
    assert survives(Strikes(Limits()), count, every_s, idle=idle) == passes


def test_an_interval_may_be_allowed_without_calls_too() -> None:
    assert survives(Strikes(Limits(min_idle_ping_interval_s=10.0)), 100, 10.0, idle=True)
    assert survives(Strikes(Limits(min_idle_ping_interval_s=0.0)), 10_000, 0.0, idle=True)
    assert survives(Strikes(Limits(min_ping_interval_s=0.0)), 10_000, 0.0)
    assert survives(Strikes(Limits(max_ping_strikes=50)), 51, 0.0)


def test_what_we_send_voids_strikes() -> None:
    strikes = Strikes(Limits())
    for sent in range(100):
        for _ in range(3):
            strikes.ping(1000.0, sent, idle=False)
    with pytest.raises(Flood, match=r"^too_many_pings$"):
        strikes.ping(1000.0, 99, idle=False)
