"""Parameters of single tensors that have a meaning: `classification` and shared memory. Pure; read once per head.

Names and types are Triton's (docs/protocol: extension_classification, extension_shared_memory). All others are left
alone, such as `binary_data_size`, which KServe's client sends.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.errors import InvalidRequest
from gateway.oip.asked import whole
from protos import inference_pb2 as pb

CLASSIFICATION: Final = "classification"
SHARED_MEMORY: Final = "system_shared_memory"
"""The extension of the protocol, as ServerMetadata names it."""
REGION: Final = "shared_memory_region"
SIZE: Final = "shared_memory_byte_size"
OFFSET: Final = "shared_memory_offset"


class Place(NamedTuple):
    """Where a tensor lies in shared memory: the name of a registered region, bytes, and bytes from the region's start.

    `size` is that of the tensor if it is an input, and the most that may be written if it is an output.
    """

    region: str
    size: int
    offset: int


def input_place(name: str, parameters: Mapping[str, pb.InferParameter]) -> Place | None:
    """Where an input is to be read; None: it comes with the request. Raises InvalidRequest."""
    if not parameters:
        return None
    if CLASSIFICATION in parameters:
        raise InvalidRequest(f"input '{name}': '{CLASSIFICATION}' is for outputs")
    return _place(f"input '{name}'", parameters)


def output_wish(name: str, parameters: Mapping[str, pb.InferParameter]) -> int | Place | None:
    """How an output is to come: as that many classes, in shared memory, or as usual. Raises InvalidRequest."""
    if not parameters:
        return None
    what = f"output '{name}'"
    place = _place(what, parameters)
    if CLASSIFICATION not in parameters:
        return place
    if place is not None:
        raise InvalidRequest(f"{what}: '{CLASSIFICATION}' and '{REGION}' exclude each other")
    return whole(f"{what}: '{CLASSIFICATION}'", parameters[CLASSIFICATION], 1, "the number of classes")


def _place(what: str, parameters: Mapping[str, pb.InferParameter]) -> Place | None:
    if REGION not in parameters:
        for name in (SIZE, OFFSET):
            if name in parameters:
                raise InvalidRequest(f"{what}: '{name}' needs '{REGION}'")
        return None
    region = parameters[REGION]
    if region.WhichOneof("parameter_choice") != "string_param" or not region.string_param:
        raise InvalidRequest(f"{what}: '{REGION}' must be a string_param, the name of a region")
    if SIZE not in parameters:
        raise InvalidRequest(f"{what}: '{REGION}' needs '{SIZE}'")
    size = whole(f"{what}: '{SIZE}'", parameters[SIZE], 0, "in bytes")
    offset = whole(f"{what}: '{OFFSET}'", parameters[OFFSET], 0, "in bytes") if OFFSET in parameters else 0
    return Place(region.string_param, size, offset)
