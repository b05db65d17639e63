"""The message of a load: gRPC-framed bytes from a file, or a request that a model's metadata asks for."""

import struct
from pathlib import Path
from typing import Final

import grpc

from loadtests import client, data, tensors
from protos.inference_pb2 import ModelMetadataRequest
from protos.inference_pb2_grpc import GRPCInferenceServiceStub

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_PREFIX: Final = struct.Struct(">BL")


class PayloadError(Exception):
    """There is nothing to send; one line."""


def framed(message: bytes) -> bytes:
    """A gRPC Length-Prefixed-Message, not compressed."""
    return _PREFIX.pack(0, len(message)) + message


def read(path: Path) -> bytes:
    """The one framed message in a file. Raises PayloadError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PayloadError(f"cannot read {path}: {error.strerror}") from error
    if len(content) < _PREFIX.size or _PREFIX.unpack_from(content) != (0, len(content) - _PREFIX.size):
        raise PayloadError(f"{path} is not one gRPC-framed message: a 0, its length in four bytes, and the message")
    return content


def of_model(target: str, model: str) -> bytes:
    """A framed request with one made-up row. Raises PayloadError."""
    try:
        channels = client.connect(target)
    except client.TargetUnreachable as error:
        raise PayloadError(str(error)) from error
    try:
        request = ModelMetadataRequest(name=model)
        metadata = GRPCInferenceServiceStub(channels[0]).ModelMetadata(request, timeout=client.CONNECT_TIMEOUT_S)
        inputs = tensors.specs(metadata.inputs)
        return framed(data.requests(model, inputs, data.synthesize(inputs, 0))[0].SerializeToString())
    except (grpc.RpcError, tensors.RowsError) as error:
        reason = error.details() if isinstance(error, grpc.Call) else str(error)
        raise PayloadError(f"{target} does not describe the model {model!r}: {reason}") from error
    finally:
        client.close(channels)
