"""Our own API reads as one piece: AIP habits, and what linters for protos check, as far as we want it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from protos import admin_pb2
from tests.house.code import ROOT

ADMIN = FileDescriptorProto()
admin_pb2.DESCRIPTOR.CopyToProto(ADMIN)
MESSAGES = {f".{ADMIN.package}.{message.name}": message for message in ADMIN.message_type}
METHODS = {method.name: method for method in ADMIN.service[0].method}
OPERATION = ".google.longrunning.Operation"
READS = ("Get", "List", "Watch")
UNPAGED = {"ListGateways": "a handful of gateways share a store"}
"""Lists that come whole, and why there will never be too much of them."""
UNITS = ("_ms", "_us", "_s", "_bytes", "_points")
TEXT, BOOL, INT32, INT64 = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BOOL,
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_INT64,
)

is_camel = re.compile(r"([A-Z][a-z0-9]+)+").fullmatch
is_snake = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*").fullmatch
is_constant = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*").fullmatch


def all_messages(messages: Iterator[DescriptorProto] | None = None) -> Iterator[DescriptorProto]:
    for message in ADMIN.message_type if messages is None else messages:
        if not message.options.map_entry:
            yield message
            yield from all_messages(iter(message.nested_type))


def all_enums() -> list[EnumDescriptorProto]:
    return [*ADMIN.enum_type, *(enum for message in all_messages() for enum in message.enum_type)]


def fields(message: DescriptorProto) -> dict[str, FieldDescriptorProto]:
    return {field.name: field for field in message.field}


def request_of(method: MethodDescriptorProto) -> dict[str, FieldDescriptorProto]:
    return fields(MESSAGES[method.input_type])


def is_change(method: MethodDescriptorProto) -> bool:
    """Whether it changes a release."""
    return method.output_type == f".{ADMIN.package}.Release" and not method.name.startswith(READS)


CHANGES = [method for method in METHODS.values() if is_change(method)]
LISTS = [method for method in METHODS.values() if method.name.startswith("List")]


def named(method: MethodDescriptorProto) -> str:
    return method.name


def test_the_package_has_a_version() -> None:
    assert re.fullmatch(r"cutover\.admin\.v[1-9]", ADMIN.package)
    assert [service.name for service in ADMIN.service] == ["Admin"]


def test_names_are_written_as_everybody_writes_them() -> None:
    assert [one.name for one in all_messages() if not is_camel(one.name)] == []
    assert [field.name for one in all_messages() for field in one.field if not is_snake(field.name)] == []
    assert [value.name for enum in all_enums() for value in enum.value if not is_constant(value.name)] == []
    assert [name for name in METHODS if not is_camel(name)] == []


@pytest.mark.parametrize("enum", all_enums(), ids=lambda enum: enum.name)
def test_zero_is_what_nobody_has_said(enum: EnumDescriptorProto) -> None:
    assert (enum.value[0].name, enum.value[0].number) == (
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_UNSPECIFIED",
        0,
    )


@pytest.mark.parametrize("method", METHODS.values(), ids=named)
def test_an_rpc_has_a_request_of_its_own_and_an_answer_of_its_own_or_a_resource(method: MethodDescriptorProto) -> None:
    assert method.input_type == f".{ADMIN.package}.{method.name}Request"
    own = f".{ADMIN.package}.{method.name}Response"
    assert method.output_type in (own, OPERATION) or "name" in fields(MESSAGES[method.output_type])
    assert not method.client_streaming


@pytest.mark.parametrize("method", METHODS.values(), ids=named)
def test_what_is_asked_about_comes_first(method: MethodDescriptorProto) -> None:
    first = {field.number: field.name for field in MESSAGES[method.input_type].field}.get(1, "page_size")
    assert first in ("name", "parent", "page_size") or method.name.startswith(("Update", "Create", "Backup"))


def test_get_takes_a_name_and_gives_the_resource() -> None:
    for name in (name for name in METHODS if name.startswith("Get")):
        assert METHODS[name].output_type == f".{ADMIN.package}.{name.removeprefix('Get')}"
        assert list(request_of(METHODS[name])) == ["name"]


@pytest.mark.parametrize("method", LISTS, ids=named)
def test_lists_come_in_pages(method: MethodDescriptorProto) -> None:
    if method.name in UNPAGED:
        return
    request, response = request_of(method), MESSAGES[method.output_type]
    assert (request["page_size"].type, request["page_token"].type) == (INT32, TEXT)
    assert fields(response)["next_page_token"].type == TEXT
    entries = response.field[0]
    assert (entries.number, entries.label) == (1, FieldDescriptorProto.LABEL_REPEATED)


@pytest.mark.parametrize("method", CHANGES, ids=named)
def test_a_change_says_on_what_why_and_whether_it_is_meant(method: MethodDescriptorProto) -> None:
    request = request_of(method)
    wanted = {"etag": TEXT, "request_id": TEXT, "reason": TEXT, "validate_only": BOOL}
    assert {name: request[name].type for name in wanted if name in request} == wanted


def test_there_are_changes() -> None:
    assert len(CHANGES) >= 14


@pytest.mark.parametrize("method", [one for one in METHODS.values() if one.output_type == OPERATION], ids=named)
def test_what_takes_its_time_can_be_asked_for_twice(method: MethodDescriptorProto) -> None:
    assert request_of(method)["request_id"].type == TEXT


def test_times_and_sizes_have_units() -> None:
    for message in all_messages():
        for field in message.field:
            assert (field.type_name == ".google.protobuf.Timestamp") == bool(re.search(r"(^|_)time$", field.name))
            if re.search(r"timeout|interval|duration|latency_|_size$", field.name) and field.type in (INT32, INT64):
                assert field.name == "page_size" or field.name.endswith(UNITS), field.name


def test_the_same_name_has_the_same_type_everywhere() -> None:
    for name in ("name", "parent", "etag", "request_id", "reason", "page_token", "next_page_token", "model", "gateway"):
        assert {field.type for one in all_messages() for field in one.field if field.name == name} <= {TEXT}
    for name in ("version", "revision", "sequence", "stable_version", "standby_version"):
        assert {field.type for one in all_messages() for field in one.field if field.name == name} <= {INT64}


@pytest.fixture(scope="module")
def commented(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """The file with its comments, which generated modules leave out."""
    target = tmp_path_factory.mktemp("descriptors") / "all.binpb"
    code = "import sys; from protos.generate import compile_protos; compile_protos(*sys.argv[1:])"
    # A process of its own: protoc keeps state.
    command = [sys.executable, "-W", "ignore", "-c", code, f"--descriptor_set_out={target}", "--include_source_info"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = FileDescriptorSet.FromString(Path(target).read_bytes())
    return next(file for file in found.file if file.name == "protos/admin.proto")


def test_what_is_there_is_explained(commented: FileDescriptorProto) -> None:
    """The service, its RPCs, enums, and every message that is no request or response."""
    explained = {tuple(place.path) for place in commented.source_code_info.location if place.leading_comments}
    bare = [service.name for number, service in enumerate(commented.service) if (6, number) not in explained]
    for number, method in enumerate(commented.service[0].method):
        if (6, 0, 2, number) not in explained:
            bare.append(method.name)
    for number, message in enumerate(commented.message_type):
        if (4, number) not in explained and not message.name.endswith(("Request", "Response")):
            bare.append(message.name)
        bare += [enum.name for place, enum in enumerate(message.enum_type) if (4, number, 4, place) not in explained]
    assert bare == []
