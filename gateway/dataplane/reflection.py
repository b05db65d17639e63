"""Server reflection (grpc.reflection.v1 and v1alpha): tools such as grpcurl ask which services there are and what their
messages look like, and need no proto files. Both versions have the same messages under different package names.
"""

from collections.abc import Iterable, Iterator
from typing import Final
from weakref import WeakSet

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.message import DecodeError

from gateway.dataplane.refusal import refuse
from gateway.errors import InvalidRequest, NotFound, RequestError
from gateway.transport.call import Stream
from protos import reflection_pb2 as pb

MAX_REQUEST_BYTES: Final = 16_384
"""A question is repeated in its answer; names are shorter."""


class Schema:
    """The served files, by name and by what they define."""

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._files: dict[str, FileDescriptor] = {}
        self._symbols: dict[str, FileDescriptor] = {}
        self._messages: set[str] = set()
        services: list[str] = []
        for file in files:
            self._files[file.name] = file
            services += [service.full_name for service in file.services_by_name.values()]
            for message in _messages(file):
                self._messages.add(message.full_name)
            self._symbols |= dict.fromkeys(_symbols(file), file)
        self.services: Final = sorted(services)

    def by_name(self, name: str) -> list[bytes]:
        """The file and those it imports, encoded. Raises NotFound."""
        if name not in self._files:
            raise NotFound(f"file '{name}' is not part of what is served")
        return _with_imports(self._files[name])

    def by_symbol(self, symbol: str) -> list[bytes]:
        """The file that defines a service, method, message, field or enum. Raises NotFound."""
        file = self._symbols.get(symbol.removeprefix("."))
        if file is None:
            raise NotFound(f"symbol '{symbol}' is not part of what is served")
        return _with_imports(file)

    def extension_numbers(self, message: str) -> list[int]:
        """Of a message: none, as proto3 messages have no extensions. Raises NotFound for what is no message."""
        if message.removeprefix(".") not in self._messages:
            raise NotFound(f"message '{message}' is not part of what is served")
        return []


class Reflection:
    """ServerReflectionInfo of both versions: answers in the order of the questions."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._open: WeakSet[_Conversation] = WeakSet()

    def start(self, stream: Stream) -> None:
        """Takes a stream over."""
        self._open.add(_Conversation(self._schema, stream))

    def drain(self) -> None:
        """Ends every stream: all that was asked has been answered."""
        for conversation in list(self._open):
            if not conversation.stream.closed:
                conversation.stream.finish()


class _Conversation:
    """One stream."""

    def __init__(self, schema: Schema, stream: Stream) -> None:
        self._schema = schema
        self.stream = stream
        stream.on_message = self._on_message
        stream.on_end = stream.finish
        stream.on_writable = stream.resume
        stream.on_cancel = lambda: None  # nothing is under way between messages

    def _on_message(self, message: bytes) -> None:
        try:
            reply = answer(self._schema, message)
        except InvalidRequest as error:
            refuse(self.stream, error)
            return
        if not self.stream.send(reply):
            self.stream.pause()


def answer(schema: Schema, message: bytes) -> bytes:
    """The encoded answer to one question. Raises InvalidRequest for what is no question at all."""
    if len(message) > MAX_REQUEST_BYTES:
        raise InvalidRequest(f"{len(message)} bytes are more than a reflection request may have ({MAX_REQUEST_BYTES})")
    try:
        request = pb.ServerReflectionRequest.FromString(message)
    except DecodeError:
        raise InvalidRequest("the message is not a ServerReflectionRequest") from None
    response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
    try:
        _fill(schema, request, response)
    except RequestError as error:
        response.error_response.error_code = error.code
        response.error_response.error_message = str(error)
    return response.SerializeToString()


def _fill(schema: Schema, request: pb.ServerReflectionRequest, response: pb.ServerReflectionResponse) -> None:
    match request.WhichOneof("message_request"):
        case "list_services":
            response.list_services_response.service.extend(pb.ServiceResponse(name=name) for name in schema.services)
        case "file_by_filename":
            files = schema.by_name(request.file_by_filename)
            response.file_descriptor_response.file_descriptor_proto.extend(files)
        case "file_containing_symbol":
            files = schema.by_symbol(request.file_containing_symbol)
            response.file_descriptor_response.file_descriptor_proto.extend(files)
        case "all_extension_numbers_of_type":
            found = response.all_extension_numbers_response
            found.extension_number.extend(schema.extension_numbers(request.all_extension_numbers_of_type))
            found.base_type_name = request.all_extension_numbers_of_type
        case "file_containing_extension":
            asked = request.file_containing_extension
            raise NotFound(f"message '{asked.containing_type}' has no extension {asked.extension_number}")
        case _:
            raise InvalidRequest("the request asks for nothing")


def _with_imports(file: FileDescriptor) -> list[bytes]:
    found: dict[str, bytes] = {}
    wanted = [file]
    while wanted:
        each = wanted.pop()
        if each.name not in found:
            found[each.name] = each.serialized_pb
            wanted += each.dependencies
    return list(found.values())


def _messages(file: FileDescriptor) -> Iterator[Descriptor]:
    """Every message of a file, the inner ones too."""
    wanted = list(file.message_types_by_name.values())
    while wanted:
        message = wanted.pop()
        wanted += message.nested_types
        yield message


def _symbols(file: FileDescriptor) -> Iterator[str]:
    """The full name of all that a file defines."""
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    enums: list[EnumDescriptor] = list(file.enum_types_by_name.values())
    for message in _messages(file):
        yield message.full_name
        yield from (field.full_name for field in message.fields)
        yield from (oneof.full_name for oneof in message.oneofs)
        enums += message.enum_types
    for enum in enums:
        yield enum.full_name
        scope = enum.full_name.rpartition(".")[0]  # values belong to what encloses their enum
        yield from (f"{scope}.{value.name}" for value in enum.values)
