"""Reading the request of an errand."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.errors import InvalidRequest

M = TypeVar("M", bound=Message)


def read(kind: type[M], message: bytes) -> M:
    """The request as a message of its kind. Raises InvalidRequest."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is not a {kind.DESCRIPTOR.name}") from None
