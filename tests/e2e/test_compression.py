"""Compressed requests and replies through a whole gateway."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton

from protos import inference_pb2 as pb
from tests import models
from tests.conformance.interop.wire import Reply, Wire, message, unpacked
from tests.serving import Gateway, serving
from tests.transports import differs

pytestmark = pytest.mark.usefixtures("each_transport")

INFER = "/inference.GRPCInferenceService/ModelInfer"
VALUES = np.arange(1000, dtype=np.float32).reshape(1, 1000)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, each_transport: str) -> Iterator[Gateway]:
    """Compresses replies of a KiB and more."""
    folder = tmp_path_factory.mktemp(f"compression-{each_transport}")
    models.save(folder / "models", "identity", 1, models.identity("FP32", (-1, -1)))
    config = folder / "cutover.toml"
    config.write_text('[limits]\ncompress_above = "1KiB"\nmax_decompressed = "1MiB"\n')
    with serving(folder / "models", folder / "state", "--config", str(config)) as gateway:
        yield gateway


def request(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> bytes:
    built = pb.ModelInferRequest(model_name="identity", raw_input_contents=[values.tobytes()])
    built.inputs.add(name="X", datatype="FP32", shape=values.shape)
    return built.SerializeToString()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_may_compress(gateway: Gateway, algorithm: str) -> None:
    given = triton.InferInput("X", VALUES.shape, "FP32")
    given.set_data_from_numpy(VALUES)
    with triton.InferenceServerClient(gateway.target) as client:
        result = client.infer("identity", [given], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("Y"), VALUES)


def answer(
    gateway: Gateway, body: bytes, *pairs: tuple[str, str], encoding: str = ""
) -> tuple[Reply, pb.ModelInferResponse]:
    """The reply as it came, and what it says."""
    names = (*pairs, ("grpc-encoding", encoding)) if encoding else pairs
    with Wire(socket.create_connection(("127.0.0.1", gateway.grpc))) as wire:
        stream_id = wire.start(INFER, *names)
        wire.send(stream_id, message(body, encoding))
        reply = wire.reply(stream_id)
    said = unpacked(reply)[0][1] if reply.status == 0 else b""
    return reply, pb.ModelInferResponse.FromString(said)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_large_replies_are_compressed_for_who_accepts_it(gateway: Gateway, encoding: str) -> None:
    reply, said = answer(gateway, request(VALUES), ("grpc-accept-encoding", encoding), encoding=encoding)
    assert (reply.messages[0][0], reply.fields["grpc-encoding"]) == (1, encoding)
    assert said.raw_output_contents[0] == VALUES.tobytes()


def test_others_get_them_as_they_are(gateway: Gateway) -> None:
    reply, said = answer(gateway, request(VALUES))
    assert reply.messages[0][0] == 0
    assert said.raw_output_contents[0] == VALUES.tobytes()


def test_small_replies_stay_as_they_are(gateway: Gateway) -> None:
    reply, _ = answer(gateway, request(VALUES[:, :10]), ("grpc-accept-encoding", "gzip"))
    assert reply.messages[0][0] == 0


def test_a_bomb_is_refused_and_the_next_request_served(gateway: Gateway, each_transport: str) -> None:
    bomb = np.zeros((1, 1_000_000), np.float32)
    reply, _ = answer(gateway, request(bomb), encoding="gzip")
    assert reply.status == differs("decompressed-size", each_transport, h2=8, grpcio=0)
    assert answer(gateway, request(VALUES))[0].status == 0
