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
    ],
)
def test_what_http2_does_not_allow_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, must be between"):
        Limits(**{field: value})


def test_defaults_are_allowed() -> None:
    assert Limits().max_message_bytes == 2**31 - 1
