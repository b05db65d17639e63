import pytest

from gateway.transport.h2.limits import Limits


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream_window_bytes", 65_534),
        ("connection_window_bytes", 2**31),
        ("max_frame_bytes", 16_383),
        ("max_frame_bytes", 2**24),
        ("max_message_bytes", 0),
        ("max_streams", 0),
        ("max_connections", 0),
        ("min_bytes_per_s", 0),
    ],
)
def test_what_http2_does_not_allow_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, must be between"):
        Limits(**{field: value})


def test_defaults_are_allowed() -> None:
    assert Limits().max_message_bytes == 2**31 - 1


def test_the_sweep_is_often_enough_for_the_shortest_timeout() -> None:
    assert Limits().sweep_every_s(1.0) == 1.0
    assert Limits(idle_timeout_s=2.0, upload_timeout_s=0.0).sweep_every_s(1.0) == 0.5
