import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.oip.reserved import Place, input_place, output_wish
from protos import inference_pb2 as pb

Parameters = dict[str, pb.InferParameter]
ONE = pb.InferParameter(int64_param=1)


def shared(region: str = "r", size: int = 8, offset: int | None = None) -> Parameters:
    """As tritonclient writes it."""
    made = {
        "shared_memory_region": pb.InferParameter(string_param=region),
        "shared_memory_byte_size": pb.InferParameter(int64_param=size),
    }
    return made if offset is None else {**made, "shared_memory_offset": pb.InferParameter(int64_param=offset)}


def refused(parameters: Parameters) -> str:
    with pytest.raises(InvalidRequest) as caught:
        output_wish("Y", parameters)
    return str(caught.value)


def test_most_tensors_have_no_wishes() -> None:
    assert input_place("X", {}) is None
    assert output_wish("Y", {}) is None
    assert input_place("X", {"binary_data_size": ONE}) is None
    assert output_wish("Y", {"binary_data": pb.InferParameter(bool_param=True)}) is None


def test_a_place_in_shared_memory() -> None:
    assert input_place("X", shared()) == Place("r", 8, 0)
    assert output_wish("Y", shared(offset=16)) == Place("r", 8, 16)
    assert input_place("X", shared(size=2**63 - 1, offset=2**63 - 1)) == Place("r", 2**63 - 1, 2**63 - 1)


def test_classes() -> None:
    assert output_wish("Y", {"classification": pb.InferParameter(int64_param=3)}) == 3
    assert output_wish("Y", {"classification": pb.InferParameter(uint64_param=1)}) == 1


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (
            {"classification": pb.InferParameter(int64_param=0)},
            "'classification' must be an int64_param or uint64_param",
        ),
        ({"classification": pb.InferParameter(string_param="3")}, "of at least 1, the number of classes"),
        ({"classification": ONE, **shared()}, "'classification' and 'shared_memory_region' exclude each other"),
        (shared(region=""), "'shared_memory_region' must be a string_param"),
        ({**shared(), "shared_memory_region": ONE}, "'shared_memory_region' must be a string_param"),
        ({"shared_memory_region": shared()["shared_memory_region"]}, "needs 'shared_memory_byte_size'"),
        ({"shared_memory_byte_size": ONE}, "'shared_memory_byte_size' needs 'shared_memory_region'"),
        ({"shared_memory_offset": ONE}, "'shared_memory_offset' needs 'shared_memory_region'"),
        (shared(size=-1), "'shared_memory_byte_size' must be an int64_param or uint64_param of at least 0, in bytes"),
        (shared(offset=-1), "'shared_memory_offset' must be an int64_param or uint64_param of at least 0, in bytes"),
    ],
)
def test_what_is_wrong_is_named(parameters: Parameters, text: str) -> None:
    found = refused(parameters)
    assert found.startswith("output 'Y': ")
    assert text in found


def test_inputs_are_not_classified() -> None:
    with pytest.raises(InvalidRequest, match="input 'X': 'classification' is for outputs"):
        input_place("X", {"classification": ONE})


any_parameter = st.one_of(
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    st.builds(pb.InferParameter, string_param=st.text(max_size=3)),
    st.builds(pb.InferParameter, double_param=st.floats()),
    st.builds(pb.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    st.just(pb.InferParameter()),
)


@given(st.dictionaries(st.sampled_from(["own", "classification", *shared(offset=0)]), any_parameter))
def test_whatever_is_asked_the_answer_is_a_wish_or_an_error(parameters: Parameters) -> None:
    for read in (input_place, output_wish):
        try:
            wish = read("T", parameters)
        except InvalidRequest:
            continue
        match wish:
            case None:
                assert set(parameters) <= {"own"}
            case Place(region, size, offset):
                assert region
                assert min(size, offset) >= 0
            case classes:
                assert classes >= 1
