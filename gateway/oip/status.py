"""google.rpc.Status, which travels as `grpc-status-details-bin`: what an error is, in a form for programs. Pure.

Written by hand, because the data plane refuses calls faster than a message object can be made; read by grpcio-status
and its siblings in every language. Schemas: google/rpc/status.proto, google/rpc/error_details.proto,
google/protobuf/{any,duration}.proto of googleapis.
"""

from typing import Final

from gateway.errors import Code, RequestError
from gateway.oip.reply import varint

DETAILS: Final = "grpc-status-details-bin"
"""The trailer's key (gRPC, "Richer error model")."""
DOMAIN: Final = "cutover"
"""Whose reasons they are: `google.rpc.ErrorInfo.domain`."""
RETRY_MS: Final = 1000
"""For errors that pass by themselves but do not know when: about the time in which a worker starts."""
MAX_TEXT_BYTES: Final = 1000
"""A text travels twice in the trailers, percent-encoded (up to three times as long) and in here as base64; clients
refuse more than 8 KiB of metadata in all, and names in it may come from the caller."""

_TYPES: Final = "type.googleapis.com/google.rpc."


def cut(text: str) -> str:
    """The text, or as much of it as MAX_TEXT_BYTES of UTF-8 hold."""
    if len(text) <= MAX_TEXT_BYTES and text.isascii():
        return text
    return text.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def details(error: RequestError) -> bytes:
    """The Status of an error: code, message and ErrorInfo; for errors that may pass RetryInfo; where one field of the
    request is wrong BadRequest; where something is not in the state that the call needs PreconditionFailure.
    """
    info = _text(1, error.reason) + _text(2, DOMAIN)
    found = _any("ErrorInfo", info)
    if error.retryable:
        found += _any("RetryInfo", _field(1, _duration(RETRY_MS if error.pushback_ms is None else error.pushback_ms)))
    text = cut(str(error))
    if error.field:
        found += _any("BadRequest", _field(1, _text(1, error.field) + _text(2, text)))
    if error.subject:
        violation = _text(1, error.reason) + _text(2, cut(error.subject)) + _text(3, text)
        found += _any("PreconditionFailure", _field(1, violation))
    return status(error.code, text) + found


def status(code: Code, message: str) -> bytes:
    """Fields 1 and 2 of a Status."""
    return _number(1, code) + _text(2, message)


def _any(name: str, value: bytes) -> bytes:
    """One entry of `details` (field 3): an Any with the type's URL and the encoded message."""
    return _field(3, _text(1, _TYPES + name) + _field(2, value))


def _duration(ms: int) -> bytes:
    """seconds (field 1) and nanos (field 2)."""
    seconds, rest_ms = divmod(ms, 1000)
    return _number(1, seconds) + _number(2, rest_ms * 1_000_000)


def _number(number: int, value: int) -> bytes:
    """A varint field; nothing when zero, as proto3 has it."""
    return varint(number << 3) + varint(value) if value else b""


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode("utf-8", "replace")) if value else b""


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value
