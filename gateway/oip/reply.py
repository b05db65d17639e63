"""Writes a ModelInferResponse: the head is made once per shape of answer, a reply is a head joined with raw tensors.

Field order on the wire is free (protobuf encoding spec), so the id travels before the head and the head stays constant.
"""

from collections.abc import Iterable

from protos import inference_pb2 as pb


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


def head(model: str, version: int, outputs: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Fields 1, 2 and 5: who answered, and (name, datatype, shape) of every output."""
    message = pb.ModelInferResponse(model_name=model, model_version=str(version))
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    return message.SerializeToString()


def raw_prefix(size: int) -> bytes:
    """What stands before one raw output tensor of `size` bytes (field 6)."""
    return b"\x32" + varint(size)
