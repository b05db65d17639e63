from pathlib import Path

import pytest

from loadtests.openloop import payload
from protos.inference_pb2 import ModelInferRequest
from tests.unit.loadtests.target import Serve


def test_a_file_holds_one_framed_message(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(payload.framed(b"abc"))
    assert payload.read(path) == b"\0\0\0\0\3abc"


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0\4abc", b"\1\0\0\0\3abc", b"abcdefgh"])
def test_what_is_not_framed_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "payload"
    path.write_bytes(content)
    with pytest.raises(payload.PayloadError, match="not one gRPC-framed message"):
        payload.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(payload.PayloadError, match="No such file"):
        payload.read(tmp_path / "payload")


def test_a_request_is_made_from_the_metadata(serve: Serve) -> None:
    target = serve()
    message = payload.of_model(target, "digits")
    request = ModelInferRequest.FromString(message[5:])
    assert (request.model_name, request.inputs[0].name, list(request.inputs[0].shape)) == ("digits", "x", [1, 4])
    with pytest.raises(payload.PayloadError, match="does not describe the model 'none': no model 'none'"):
        payload.of_model(target, "none")


def test_nobody_to_ask(unused_tcp_port: int) -> None:
    with pytest.raises(payload.PayloadError, match="nothing at"):
        payload.of_model(f"127.0.0.1:{unused_tcp_port}", "digits")
