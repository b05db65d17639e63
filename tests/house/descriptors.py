"""What clients may rely on: the protos as they were when tests/vectors/protos.binpb was written.

usage: python -m tests.house.descriptors     takes today's protos over; refuses what would break a client

A client that was built from the file must go on working, so the protos may grow, and nothing else: no field, value, RPC
or message may go, nor change its name, number, type or streaming.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from protos import admin_pb2, health_pb2, inference_pb2, reflection_pb2, reflection_v1alpha_pb2

KEPT: Final = Path(__file__).parents[1] / "vectors" / "protos.binpb"
MODULES: Final = (admin_pb2, health_pb2, inference_pb2, reflection_pb2, reflection_v1alpha_pb2)

Plain = dict[str, Any]
"""What matters to a client, by name: values, and what has members of its own."""


def today() -> FileDescriptorSet:
    """The protos as they are."""
    found = FileDescriptorSet()
    for module in MODULES:
        module.DESCRIPTOR.CopyToProto(found.file.add())
    return found


def kept() -> FileDescriptorSet:
    """The protos as clients know them."""
    return FileDescriptorSet.FromString(KEPT.read_bytes())


def breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """What would break a client of the old protos, a line each."""
    return list(
        _missing("", {file.name: _file(file) for file in old.file}, {file.name: _file(file) for file in new.file})
    )


def _missing(path: str, old: Plain, new: Plain) -> Iterator[str]:
    for name, was in old.items():
        place = f"{path} {name}".strip()
        if name not in new:
            yield f"{place} is gone"
        elif isinstance(was, dict):
            yield from _missing(place, was, new[name])
        elif was != new[name]:
            yield f"{place} was {was!r} and is {new[name]!r}"


def _file(file: FileDescriptorProto) -> Plain:
    types = _types(file.message_type, file.enum_type)
    services = {f"service {one.name}": _service(one) for one in file.service}
    return {"package": file.package, "syntax": file.syntax} | types | services


def _types(messages: Iterable[DescriptorProto], enums: Iterable[EnumDescriptorProto]) -> Plain:
    found: Plain = {f"message {one.name}": _message(one) for one in messages}
    return found | {f"enum {one.name}": _enum(one) for one in enums}


def _message(message: DescriptorProto) -> Plain:
    found: Plain = {"is a map": message.options.map_entry}
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        found[f"field {field.name}"] = _field(field, oneof)
    found |= {f"reserved {one.start} to {one.end}": True for one in message.reserved_range}
    found |= {f"reserved {name}": True for name in message.reserved_name}
    return found | _types(message.nested_type, message.enum_type)


def _field(field: FieldDescriptorProto, oneof: str) -> Plain:
    return {
        "number": field.number,
        "type": FieldDescriptorProto.Type.Name(field.type),
        "type name": field.type_name,
        "label": FieldDescriptorProto.Label.Name(field.label),
        "is optional": field.proto3_optional,
        "oneof": oneof,
        "is packed": field.options.packed if field.options.HasField("packed") else None,
        "default": field.default_value,
    }


def _enum(enum: EnumDescriptorProto) -> Plain:
    found: Plain = {f"value {value.name}": value.number for value in enum.value}
    return found | {f"reserved {one.start} to {one.end}": True for one in enum.reserved_range}


def _service(service: ServiceDescriptorProto) -> Plain:
    return {
        f"rpc {method.name}": {
            "takes": method.input_type,
            "gives": method.output_type,
            "streams requests": method.client_streaming,
            "streams answers": method.server_streaming,
        }
        for method in service.method
    }


def main() -> int:
    """Takes the protos over, unless that would break a client."""
    wrong = breaks(kept(), today()) if KEPT.exists() else []
    if wrong:
        sys.stderr.write("clients would break:\n" + "".join(f"  {line}\n" for line in wrong))
        return 1
    KEPT.write_bytes(today().SerializeToString(deterministic=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
