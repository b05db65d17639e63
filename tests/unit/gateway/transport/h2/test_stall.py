from gateway.transport.h2.stall import Stall


def test_a_stall_ends_with_progress() -> None:
    stall = Stall(100)
    assert stall.look(10.0, 100, 500) == 10.0
    assert stall.look(1.0, 1600, 500) == 8.0
    assert stall.look(1.0, 10**6, 500) == 0.0
    assert stall.look(1.0, 10**6, 500) == 1.0, "a fast past does not excuse"
