import numpy as np
import pytest
from google.protobuf.internal.decoder import _DecodeVarint32  # type: ignore[attr-defined] # it has no stub
from tritonclient.grpc import InferResult
from tritonclient.grpc import service_pb2 as triton

from gateway.oip import reply
from gateway.oip.reserved import Place
from protos import inference_pb2 as pb


def written(id_: bytes, outputs: list[tuple[str, str, tuple[int, ...], bytes]]) -> bytes:
    head = reply.head("m", 7, [output[:3] for output in outputs])
    raw = [piece for *_, raw in outputs for piece in (reply.raw_prefix(len(raw)), raw)]
    return b"".join([reply.id_field(id_), head, *raw])


OUTPUTS = [
    ("label", "INT64", (2,), np.array([3, -1], "<i8").tobytes()),
    ("scores", "FP32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
    ("words", "BYTES", (2,), b"\x02\0\0\0hi\0\0\0\0"),
    ("nothing", "FP32", (0, 3), b""),
]


def test_the_library_reads_what_was_written() -> None:
    response = pb.ModelInferResponse.FromString(written("käse".encode(), OUTPUTS))
    assert (response.model_name, response.model_version, response.id) == ("m", "7", "käse")
    assert [(o.name, o.datatype, tuple(o.shape)) for o in response.outputs] == [output[:3] for output in OUTPUTS]
    assert list(response.raw_output_contents) == [raw for *_, raw in OUTPUTS]
    assert not any(output.HasField("contents") for output in response.outputs)


def test_tritonclient_reads_what_was_written() -> None:
    result = InferResult(triton.ModelInferResponse.FromString(written(b"", OUTPUTS)))
    assert result.as_numpy("label").tolist() == [3, -1]
    assert result.as_numpy("scores").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert result.as_numpy("words").tolist() == [b"hi", b""]
    assert result.as_numpy("nothing").shape == (0, 3)
    assert result.as_numpy("unknown") is None


def test_no_id_takes_no_bytes() -> None:
    assert reply.id_field(b"") == b""
    assert pb.ModelInferResponse.FromString(reply.id_field(b"x" * 300)).id == "x" * 300


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16_383, 16_384, (1 << 31) - 1])
def test_varints_are_the_library_s(value: int) -> None:
    encoded = reply.varint(value)
    assert _DecodeVarint32(encoded, 0) == (value, len(encoded))


def test_an_output_in_shared_memory_repeats_its_parameters() -> None:
    head = reply.head("m", 7, [("Y", "FP32", (1,)), ("Z", "FP32", (1,))], {"Z": Place("r", 4, 0)})
    plain, shared = pb.ModelInferResponse.FromString(head).outputs
    assert not plain.parameters
    assert {name: value.WhichOneof("parameter_choice") for name, value in shared.parameters.items()} == {
        "shared_memory_region": "string_param",
        "shared_memory_byte_size": "int64_param",
    }
