from pathlib import Path

import pytest

from gateway.controlplane.repository import Files, Found
from gateway.controlplane.shelf import RESTLESS_LOOKS, Shelf
from gateway.controlplane.version import Version

OLD: Files = (("model.onnx", 2, 100),)
NEW: Files = (("model.onnx", 3, 900),)


def version(number: int, digest: str = "d", error: str = "") -> Version:
    return Version("m", number, Path("/m"), digest, error=error)


def read(shelf: Shelf, number: int, what: Version | str) -> None:
    shelf.read[number] = shelf.found.versions[number], what


def test_a_version_is_read_once_its_files_are_the_same_at_two_looks() -> None:
    shelf = Shelf("m")
    assert shelf.look(Found({1: OLD}, ()), None) == []
    assert (shelf.restless, shelf.settling, shelf.take_in()) == (True, True, False)
    assert shelf.look(Found({1: OLD}, ()), None) == [1]
    read(shelf, 1, version(1))
    assert (shelf.restless, shelf.settling, shelf.take_in()) == (False, False, True)
    assert shelf.look(Found({1: OLD}, ()), None) == [], "it is known"
    assert not shelf.take_in()
    assert shelf.look(Found({1: NEW}, ()), None) == []
    assert shelf.versions == {1: version(1)}, "until it rests"
    assert shelf.look(Found({1: NEW}, ()), None) == [1]
    read(shelf, 1, version(1, "e"))
    assert shelf.take_in()
    assert shelf.look(Found({}, ("gone",)), None) == []
    assert shelf.take_in()
    assert (shelf.versions, shelf.problems) == ({}, ("gone",))


@pytest.mark.parametrize(("rested_ns", "unread"), [(500, [1]), (50, [])])
def test_at_the_first_look_old_files_are_at_rest(rested_ns: int, unread: list[int]) -> None:
    assert Shelf("m").look(Found({1: OLD, 2: NEW, 3: ()}, ()), rested_ns) == unread


def test_what_is_no_version_and_what_cannot_be_loaded_are_problems() -> None:
    shelf = Shelf("m")
    shelf.look(Found({1: OLD, 2: OLD}, ("m/x: does not belong here",)), 500)
    read(shelf, 1, "m/1: has no model.onnx")
    read(shelf, 2, version(2, error="m/2/model.toml: nonsense"))
    assert shelf.take_in()
    assert shelf.problems == ("m/x: does not belong here", "m/1: has no model.onnx", "m/2/model.toml: nonsense")
    assert list(shelf.versions) == [2]


def test_files_that_never_rest_hold_up_nobody() -> None:
    shelf = Shelf("m")
    for number in range(RESTLESS_LOOKS):
        assert shelf.look(Found({1: (("log", number, number),)}, ()), None) == []
        shelf.take_in()
    assert (shelf.settling, shelf.restless) == (False, True)
    assert shelf.problems == (f"m/1: its files keep changing for {RESTLESS_LOOKS} s; move what writes there elsewhere",)
