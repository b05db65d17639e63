"""Tests of `workers.tensors`."""

import numpy as np
import pytest

from tests import frames
from tests.models import ELEMENT_TYPES
from workers import tensors, wire
from workers.errors import ModelFailed, Refused


def test_every_word_of_the_protocol_has_a_dtype_and_an_onnx_type() -> None:
    words = {*wire.FIXED_SIZES, "BYTES"}
    assert words == set(tensors.DTYPES) == set(tensors.DATATYPES.values()) == set(ELEMENT_TYPES)


def test_sizes_of_dtypes_are_those_on_the_wire() -> None:
    for word, size in wire.FIXED_SIZES.items():
        assert tensors.DTYPES[word].itemsize == size


def test_fixed_views_the_buffer_without_copying() -> None:
    buffer = bytearray(8) + np.array([[1, 2], [3, 4]], np.float32).tobytes()
    array = tensors.fixed("FP32", (2, 2), buffer, 8)
    assert array.tolist() == [[1, 2], [3, 4]]
    buffer[8:12] = bytes(4)
    assert array[0, 0] == 0


def test_fixed_copies_what_is_not_aligned() -> None:
    buffer = bytearray(3) + np.array([1, 2], np.float64).tobytes()
    array = tensors.fixed("FP64", (2,), buffer, 3)
    assert array.tolist() == [1, 2]
    assert array.flags.aligned
    assert array.flags.owndata


def test_bool_is_true_for_any_byte_but_zero() -> None:
    array = tensors.fixed("BOOL", (4,), bytes([0, 1, 2, 255]), 0)
    assert array.dtype == np.bool_
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_fixed_takes_empty_tensors_at_the_very_end() -> None:
    assert tensors.fixed("INT64", (0, 3), bytearray(8), 8).shape == (0, 3)


def test_texts_are_decoded_and_joined_again() -> None:
    data = frames.to_bytes(np.array(["", "Ünïcødé-😊", "\x00a\x00"], dtype=object))
    array = tensors.texts("X", (3, 1), data)
    assert array.tolist() == [[""], ["Ünïcødé-😊"], ["\x00a\x00"]]
    assert tensors.joined(array) == data


def test_raw_elements_keep_any_bytes() -> None:
    data = frames.to_bytes(np.array([b"\xff\xfe", b""], dtype=object))
    assert tensors.raw_elements("X", (2,), data).tolist() == [b"\xff\xfe", b""]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01\x00\x00", "element 0 has no length"),
        (b"\x02\x00\x00\x00a", "element 0 is longer than the tensor"),
        (b"\x01\x00\x00\x00a" * 2, "2 elements where the shape [1] has 1"),
        (b"", "0 elements where the shape [1] has 1"),
        (b"\xff\xff\xff\xff", "element 0 is longer than the tensor"),
        (b"\x01\x00\x00\x00\xff", "element 0 is not UTF-8"),
    ],
)
def test_malformed_texts_are_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(Refused) as caught:
        tensors.texts("TEXT", (1,), data)
    assert str(caught.value).startswith("TEXT: ")
    assert words in str(caught.value)


def test_text_that_utf8_cannot_carry_is_the_models_failure() -> None:
    with pytest.raises(ModelFailed):
        tensors.joined(np.array(["\ud800"], dtype=object))


def test_bf16_is_widened_from_its_bits() -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0000], np.uint16)
    assert tensors.widened(bits, "BF16").tolist() == [1.0, -2.0, np.inf, 0.0]
