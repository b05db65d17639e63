"""Tests of `workers.errors`."""

from pathlib import Path

import pytest

from workers.errors import BadFrame, Cancelled, FrameError, Late, LoadFailed, ModelFailed, Refused, place


def test_codes_are_those_of_grpc() -> None:
    codes = [error.code for error in (Cancelled, Refused, Late, ModelFailed, FrameError)]
    assert codes == [1, 3, 4, 13, 13]


def test_only_frame_errors_are_answered() -> None:
    assert issubclass(Refused, FrameError)
    assert issubclass(ModelFailed, FrameError)
    assert not issubclass(BadFrame, FrameError)
    assert not issubclass(LoadFailed, FrameError)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/srv/models/digits/1/model.onnx", "digits/1/model.onnx"),
        ("digits/1/model.onnx", "digits/1/model.onnx"),
        ("model.onnx", "model.onnx"),
    ],
)
def test_a_file_is_named_by_model_and_version(path: str, said: str) -> None:
    assert place(Path(path)) == said
