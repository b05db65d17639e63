"""Writes a ModelInferResponse: the head is made once per shape of answer, a reply is a head joined with raw tensors.

Field order on the wire is free (protobuf encoding spec), so the id travels before the head and the head stays constant.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.oip.reserved import OFFSET, REGION, SIZE, Place
from protos import inference_pb2 as pb

NO_PLACES: Final[Mapping[str, Place]] = {}


def varint(value: int) -> bytes:
    """Base-128 encoding of a non-negative integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def id_field(value: bytes) -> bytes:
    """Field 3, `id`; nothing when empty."""
    return b"\x1a" + varint(len(value)) + value if value else b""


def head(
    model: str,
    version: int,
    outputs: Iterable[tuple[str, str, tuple[int, ...]]],
    places: Mapping[str, Place] = NO_PLACES,
) -> bytes:
    """Fields 1, 2 and 5: who answered, and (name, datatype, shape) of every output; by name, where in shared memory."""
    message = pb.ModelInferResponse(model_name=model, model_version=str(version))
    for name, datatype, shape in outputs:
        output = message.outputs.add(name=name, datatype=datatype, shape=shape)
        if name in places:
            _describe(output, places[name])
    return message.SerializeToString(deterministic=True)


def _describe(output: pb.ModelInferResponse.InferOutputTensor, place: Place) -> None:
    """The parameters that the request gave the output."""
    output.parameters[REGION].string_param = place.region
    output.parameters[SIZE].int64_param = place.size
    if place.offset:
        output.parameters[OFFSET].int64_param = place.offset


def raw_prefix(size: int) -> bytes:
    """What stands before one raw output tensor of `size` bytes (field 6)."""
    return b"\x32" + varint(size)
