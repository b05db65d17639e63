"""Tests of `workers.errors`."""

from workers.errors import BadFrame, FrameError, LoadFailed, ModelFailed, Refused


def test_codes_are_those_of_grpc() -> None:
    assert (Refused.code, ModelFailed.code, FrameError.code) == (3, 13, 13)


def test_only_frame_errors_are_answered() -> None:
    assert issubclass(Refused, FrameError)
    assert issubclass(ModelFailed, FrameError)
    assert not issubclass(BadFrame, FrameError)
    assert not issubclass(LoadFailed, FrameError)
