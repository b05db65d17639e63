"""Deadlines of clients, through a whole gateway."""

import socket

import numpy as np
import pytest

from protos import inference_pb2 as pb
from tests.conformance.interop.wire import Wire, message
from tests.serving import Gateway
from tests.transports import differs

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize("timeout", ["1n", "1u", "0m"])
def test_what_is_late_on_arrival_is_not_answered(shared: Gateway, transport: str, timeout: str) -> None:
    """In units that grpcio's own client never sends."""
    request = pb.ModelInferRequest(model_name="identity_fp32", raw_input_contents=[np.zeros(3, "<f4").tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 3])
    with Wire(socket.create_connection(("127.0.0.1", shared.grpc))) as wire:
        for given, statuses in ((timeout, differs("deadline", transport, h2={4}, grpcio={0, 4})), ("30S", {0})):
            stream_id = wire.start(INFER, ("grpc-timeout", given))
            wire.send(stream_id, message(request.SerializeToString()))
            assert wire.reply(stream_id).status in statuses
