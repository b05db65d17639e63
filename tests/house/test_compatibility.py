"""Old clients keep working: the protos only grow. See `descriptors` for how what they rely on is kept."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from tests.house import descriptors
from tests.house.descriptors import breaks, kept, today

Change = tuple[str, Callable[[FileDescriptorSet], object]]
"""What a change does, in words, and how."""

ADMIN = 0
"""Where our own API is among the files."""


def test_no_client_breaks() -> None:
    assert breaks(kept(), today()) == []


def test_what_is_kept_is_today_s_or_older() -> None:
    names = {file.name for file in today().file}
    assert {file.name for file in kept().file} <= names


def messages(found: FileDescriptorSet) -> Iterator[DescriptorProto]:
    """All of ours, nested ones included, in an order of their own."""
    for message in found.file[ADMIN].message_type:
        yield message
        yield from message.nested_type


def remove_message(index: int, found: FileDescriptorSet) -> None:
    found.file[ADMIN].message_type.pop(index)


def breaking() -> Iterator[Change]:
    """Every way to break a client with one edit."""
    reference = today()
    for number, message in enumerate(messages(reference)):
        for index, field in enumerate(message.field):
            yield from field_changes(f"{message.name}.{field.name}", number, index)
        for place, enum in enumerate(message.enum_type):
            for index, value in enumerate(enum.value):
                yield from value_changes(f"{enum.name}.{value.name}", number, place, index)
    for index, message in enumerate(reference.file[ADMIN].message_type):
        yield f"remove {message.name}", partial(remove_message, index)
    for index, method in enumerate(reference.file[ADMIN].service[0].method):
        yield from method_changes(method.name, index)
    yield "remove the service", lambda found: found.file[ADMIN].service.pop()
    yield "another package", lambda found: setattr(found.file[ADMIN], "package", "cutover.admin.v2")
    yield "remove a file", lambda found: found.file.pop()


def field_changes(name: str, number: int, index: int) -> Iterator[Change]:
    def field(found: FileDescriptorSet) -> FieldDescriptorProto:
        return list(messages(found))[number].field[index]

    def retyped(found: FileDescriptorSet) -> None:
        one = field(found)
        one.type = FieldDescriptorProto.TYPE_BYTES if one.type != one.TYPE_BYTES else FieldDescriptorProto.TYPE_STRING

    def relabelled(found: FileDescriptorSet) -> None:
        one = field(found)
        one.label = one.LABEL_REPEATED if one.label != one.LABEL_REPEATED else one.LABEL_OPTIONAL

    yield f"remove {name}", lambda found: list(messages(found))[number].field.pop(index)
    yield f"rename {name}", lambda found: setattr(field(found), "name", "other")
    yield f"renumber {name}", lambda found: setattr(field(found), "number", 1_000)
    yield f"retype {name}", retyped
    yield f"relabel {name}", relabelled
    yield f"another message for {name}", lambda found: setattr(field(found), "type_name", ".cutover.admin.v1.Other")
    yield f"make {name} optional", lambda found: setattr(field(found), "proto3_optional", True)


def value_changes(name: str, number: int, place: int, index: int) -> Iterator[Change]:
    yield f"remove {name}", lambda found: list(messages(found))[number].enum_type[place].value.pop(index)
    yield (
        f"renumber {name}",
        lambda found: setattr(list(messages(found))[number].enum_type[place].value[index], "number", 99),
    )


def method_changes(name: str, index: int) -> Iterator[Change]:
    def toggle(side: str, found: FileDescriptorSet) -> None:
        method = found.file[ADMIN].service[0].method[index]
        setattr(method, side, not getattr(method, side))

    def set_type(side: str, found: FileDescriptorSet) -> None:
        setattr(found.file[ADMIN].service[0].method[index], side, ".cutover.admin.v1.Tensor")

    yield f"remove {name}", lambda found: found.file[ADMIN].service[0].method.pop(index)
    for side in ("client_streaming", "server_streaming"):
        yield f"{side} of {name}", partial(toggle, side)
    for side in ("input_type", "output_type"):
        yield f"{side} of {name}", partial(set_type, side)


BREAKING = list(breaking())


@given(st.sampled_from(BREAKING))
def test_whatever_breaks_a_client_is_refused(change: Change) -> None:
    words, edit = change
    new = today()
    edit(new)
    assert breaks(today(), new), words


def grown() -> FileDescriptorSet:
    """The protos with an addition of every kind."""
    found = today()
    admin = found.file[ADMIN]
    admin.message_type.add(name="Further")
    admin.enum_type.add(name="Kind").value.add(name="KIND_UNSPECIFIED", number=0)
    release = next(one for one in admin.message_type if one.name == "Release")
    release.field.add(name="further", number=1_000, type=FieldDescriptorProto.TYPE_STRING)
    release.oneof_decl.add(name="either")
    version = next(one for one in admin.message_type if one.name == "Version")
    version.enum_type[0].value.add(name="FURTHER", number=99)
    admin.service[0].method.add(name="Further", input_type=".cutover.admin.v1.Further")
    admin.service.add(name="Further")
    admin.service[0].method[0].options.deprecated = True
    found.file.add(name="protos/further.proto", package="cutover.further.v1")
    return found


def test_growth_is_accepted() -> None:
    assert breaks(today(), grown()) == []


def test_what_goes_in_place_of_another_is_named() -> None:
    new = today()
    release = new.file[ADMIN].message_type[0]
    release.field[0].name = "title"
    release.field[1].number = 99
    assert breaks(today(), new) == [
        "protos/admin.proto message Release field name is gone",
        "protos/admin.proto message Release field model number was 2 and is 99",
    ]


def test_growth_is_taken_over_and_a_break_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(descriptors, "KEPT", tmp_path / "protos.binpb")
    assert descriptors.main() == 0
    assert kept_in(tmp_path) == today()
    monkeypatch.setattr(descriptors, "today", grown)
    assert descriptors.main() == 0
    assert kept_in(tmp_path) == grown()
    monkeypatch.setattr(descriptors, "today", today)
    assert descriptors.main() == 1
    assert "protos/admin.proto message Further is gone" in capsys.readouterr().err
    assert kept_in(tmp_path) == grown()


def kept_in(folder: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString((folder / "protos.binpb").read_bytes())
