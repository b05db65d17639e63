import pytest

from gateway.controlplane.triton.requests import read
from gateway.errors import InvalidRequest
from protos import inference_pb2 as pb


def test_a_request_is_read_as_its_kind() -> None:
    sent = pb.ModelStatisticsRequest(name="m", version="2")
    assert read(pb.ModelStatisticsRequest, sent.SerializeToString()) == sent


def test_what_is_no_message_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="the message is not a ModelStatisticsRequest"):
        read(pb.ModelStatisticsRequest, b"\x0a\x09x")
