import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.oip import asked as module
from gateway.oip.asked import CACHED_BYTES, CACHED_PARAMETERS, NOTHING, Asked, asked
from protos import inference_pb2 as pb

RESERVED = ("timeout", "priority", "sequence_id", "sequence_start", "sequence_end")


def encoded(**parameters: pb.InferParameter) -> bytes:
    """Field 4 with these parameters."""
    return pb.ModelInferRequest(parameters=parameters).SerializeToString()


def integer(value: int) -> pb.InferParameter:
    return pb.InferParameter(int64_param=value)


def unsigned(value: int) -> pb.InferParameter:
    return pb.InferParameter(uint64_param=value)


def flag(value: bool) -> pb.InferParameter:
    return pb.InferParameter(bool_param=value)


def text(value: str) -> pb.InferParameter:
    return pb.InferParameter(string_param=value)


def refused(**parameters: pb.InferParameter) -> str:
    with pytest.raises(InvalidRequest) as caught:
        asked(encoded(**parameters))
    return str(caught.value)


def test_what_is_the_callers_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_parse", lambda _: pytest.fail("parsed"))
    assert asked(b"") is NOTHING
    assert asked(encoded(user_id=text("ada"), timeouts=integer(3), x_priority=text("high"))) is NOTHING
    assert asked(encoded(headers=text("timeout"), binary_data_output=flag(True))) is NOTHING


def test_a_timeout_is_in_microseconds() -> None:
    assert asked(encoded(timeout=integer(1_500_000))) == Asked(1.5, 0)
    assert asked(encoded(timeout=unsigned(250))) == Asked(0.00025, 0)
    assert asked(encoded(timeout=integer(0))) == NOTHING
    assert asked(encoded(timeout=unsigned(2**64 - 1))).timeout_s > 1e12


def test_a_priority() -> None:
    assert asked(encoded(priority=unsigned(2), user_id=text("ada"))) == Asked(0.0, 2)
    assert asked(encoded(priority=integer(1), timeout=integer(1000))) == Asked(0.001, 1)


def test_wrong_types_are_refused() -> None:
    for value in (integer(-1), text("1"), flag(True), pb.InferParameter(double_param=1.0), pb.InferParameter()):
        assert "'timeout' must be an int64_param or uint64_param of at least 0, in microseconds" in refused(
            timeout=value
        )
        assert "'priority' must be an int64_param" in refused(priority=value)
    assert "'sequence_start' must be bool_param" in refused(sequence_start=integer(1))
    assert "'sequence_id' must be int64_param or uint64_param or string_param" in refused(sequence_id=flag(False))
    assert "'triton_enable_empty_final_response' must be bool_param" in refused(
        triton_enable_empty_final_response=text("")
    )


def test_sequences_are_refused_unless_they_are_none() -> None:
    assert asked(encoded(sequence_id=integer(0), sequence_start=flag(False), sequence_end=flag(False))) == NOTHING
    assert asked(encoded(sequence_id=text(""))) == NOTHING
    assert "every model here is stateless" in refused(sequence_id=integer(7))
    assert "every model here is stateless" in refused(sequence_id=text("call-7"))
    assert "'sequence_start' is not served" in refused(sequence_start=flag(True))
    assert "'sequence_end' is not served" in refused(sequence_end=flag(True))
    assert asked(encoded(sequence_number=integer(7))) == NOTHING


def test_names_of_triton_are_reserved() -> None:
    assert asked(encoded(triton_enable_empty_final_response=flag(True))) == NOTHING
    assert "'triton_final_response' is not known" in refused(triton_final_response=flag(True))


def test_an_error_is_told_each_time() -> None:
    assert refused(timeout=text("soon")) == refused(timeout=text("soon"))


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        asked(b"\x22\x0c\x0a\x07timeout\x12\xff")


def test_the_cache_is_bounded() -> None:
    for number in range(CACHED_PARAMETERS + 10):
        assert asked(encoded(timeout=integer(number))) == Asked(number / 1e6, 0)
    assert 0 < len(module._known) <= CACHED_PARAMETERS
    large = encoded(timeout=integer(1), note=text("x" * CACHED_BYTES))
    assert asked(large) == Asked(1e-6, 0)
    assert large not in module._known


@given(
    st.dictionaries(st.text(max_size=8), st.builds(text, st.text(max_size=20))),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**64 - 1),
)
def test_it_is_found_among_others(others: dict[str, pb.InferParameter], timeout_us: int, priority: int) -> None:
    own = {name: value for name, value in others.items() if name not in RESERVED and not name.startswith("triton_")}
    parameters = encoded(**own, timeout=integer(timeout_us), priority=unsigned(priority))
    assert asked(parameters) == Asked(timeout_us / 1e6, priority)
