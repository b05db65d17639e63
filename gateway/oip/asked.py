"""What a request's own parameters ask of the gateway: `timeout`, `priority`; and what it refuses to be asked. Pure.

Names and types are Triton's (docs/protocol: extension_schedule_policy, extension_sequence, extension_parameters).
Everything else in the parameters is the caller's own and left alone.
"""

import re
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest
from protos import inference_pb2 as pb

CACHED_PARAMETERS: Final = 4096
CACHED_BYTES: Final = 256
"""Larger parameters are parsed each time: a peer cannot grow the cache beyond CACHED_PARAMETERS x CACHED_BYTES."""

INTEGERS: Final = ("int64_param", "uint64_param")
_SEQUENCE_FLAGS: Final = ("sequence_start", "sequence_end")
_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
_STATELESS: Final = "every model here is stateless and answers each request by itself; leave it out"

_CONCERNS_US: Final = re.compile(rb"\n(?:\x07timeout|\x08priority|.sequence_|.triton_)", re.DOTALL)
"""The key of a map entry (field 1, its length, its text). A match in a value only costs the parsing."""


class Asked(NamedTuple):
    """timeout_s: how long the request may wait for a worker, 0: as the settings say; priority: 1 the first, 0: none."""

    timeout_s: float
    priority: int


NOTHING: Final = Asked(0.0, 0)
_known: dict[bytes, Asked] = {}


def asked(parameters: bytes) -> Asked:
    """Reads field 4 of a request as it came. Raises InvalidRequest for a wrong type and for what is not served."""
    if _CONCERNS_US.search(parameters) is None:
        return NOTHING
    found = _known.get(parameters)
    if found is None:
        found = _parse(parameters)
        if len(parameters) <= CACHED_BYTES:
            if len(_known) >= CACHED_PARAMETERS:
                _known.clear()
            _known[parameters] = found
    return found


def _parse(encoded: bytes) -> Asked:
    try:
        entries = pb.ModelInferRequest.FromString(encoded).parameters
    except DecodeError as error:
        raise InvalidRequest("the request's parameters cannot be read") from error
    timeout_us = priority = 0
    for name, value in entries.items():
        if name == "timeout":
            timeout_us = whole("parameter 'timeout'", value, 0, "in microseconds")
        elif name == "priority":
            priority = whole("parameter 'priority'", value, 0, "the first is 1")
        elif name == "sequence_id" or name in _SEQUENCE_FLAGS:
            _check_sequence(name, value)
        elif name.startswith("triton_"):
            _check_reserved(name, value)
    return Asked(timeout_us / 1e6, priority)


def whole(what: str, value: pb.InferParameter, least: int, meaning: str) -> int:
    """A parameter that is an integer from `least`, 0 or 1. Raises InvalidRequest, in which `what` names it."""
    kind = value.WhichOneof("parameter_choice")
    number: Any = getattr(value, kind) if kind in INTEGERS else -1
    if number < least:
        raise InvalidRequest(f"{what} must be an int64_param or uint64_param of at least {least}, {meaning}")
    return int(number)


def _check_sequence(name: str, value: pb.InferParameter) -> None:
    """Clients send what means no sequence, too."""
    kinds = ("bool_param",) if name in _SEQUENCE_FLAGS else ("int64_param", "uint64_param", "string_param")
    kind = value.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise InvalidRequest(f"parameter '{name}' must be {' or '.join(kinds)}")
    if getattr(value, kind):
        raise InvalidRequest(f"parameter '{name}' is not served: {_STATELESS}")


def _check_reserved(name: str, value: pb.InferParameter) -> None:
    if name != _EMPTY_FINAL:
        raise InvalidRequest(f"parameter '{name}' is not known; names that begin with 'triton_' are reserved")
    if value.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidRequest(f"parameter '{name}' must be bool_param")
