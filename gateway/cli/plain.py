"""Protobuf messages as plain JSON values: field names of the proto, integers as numbers, absent messages as null.

Not protobuf's own JSON, which writes int64 as text and so makes every script convert. `field` below is a protobuf
FieldDescriptor, of which there are two classes in typeshed's eyes.
"""

import math
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def to_plain(message: Message) -> dict[str, Any]:
    """The message as a dictionary, every field present."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def timestamp(value: Timestamp) -> datetime:
    """The moment, in UTC."""
    return datetime.fromtimestamp(value.seconds + value.nanos / 1e9, UTC)


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): _value(field.message_type.fields_by_name["value"], one) for key, one in value.items()}
    if field.is_repeated:
        return [_value(field, one) for one in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return timestamp(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Message):
        return to_plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    return value
