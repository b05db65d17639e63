import json
import threading
import time
from collections.abc import Callable

import pytest

from gateway.cli import watching
from gateway.cli.admin import Admin
from gateway.cli.command import Gateway, Output
from gateway.cli.failure import Exit, Failure
from gateway.cli.overview import Overview
from gateway.cli.watching import READER, follow, watch_status
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import FakeAdmin, release, serve

NEVER_S = 60.0


class Done(Exception):
    """The test has seen enough."""


def until(steps: list[Callable[[list[Overview]], None]]) -> Callable[[list[Overview]], None]:
    """A display that does one step per state shown, and after the last one ends the watch."""
    left = iter(steps)

    def show(found: list[Overview]) -> None:
        next(left)(found)
        if left.__length_hint__() == 0:  # type: ignore[attr-defined] # list iterators have it
            raise Done

    return show


def test_shows_the_state_at_once_and_after_every_change(admin: FakeAdmin) -> None:
    seen: list[int] = []

    def first(found: list[Overview]) -> None:
        seen.append(found[0].release.revision)
        admin.changed.put(release("digits", 7, stable=2))

    def second(found: list[Overview]) -> None:
        seen.append(found[0].release.revision)

    with Admin(admin.address, 10) as client, pytest.raises(Done):
        follow(client, None, NEVER_S, until([first, second]))
    assert seen == [6, 7]


def test_reads_statistics_again_without_a_change(admin: FakeAdmin) -> None:
    shown: list[int] = []

    def count(found: list[Overview]) -> None:
        shown.append(len(found[0].statistics))
        admin.statistics.append(pb.Statistics(model="digits", version=1, arm="stable"))

    with Admin(admin.address, 10) as client, pytest.raises(Done):
        follow(client, "digits", 0.01, until([count, count, count]))
    assert shown == [0, 1, 1]


def test_no_thread_is_left(admin: FakeAdmin) -> None:
    with Admin(admin.address, 10) as client, pytest.raises(Done):
        follow(client, None, NEVER_S, until([lambda _: None]))
    assert READER not in [thread.name for thread in threading.enumerate()]


def test_an_unknown_model_is_an_error_at_once(admin: FakeAdmin) -> None:
    with pytest.raises(Failure, match="does not exist") as caught:
        watch_status(Gateway(admin.address, 10, Output.JSON), "nothing", NEVER_S)
    assert caught.value.code is Exit.REFUSED


def test_a_gateway_that_was_never_there_is_an_error(admin: FakeAdmin) -> None:
    with pytest.raises(Failure) as caught:
        watch_status(Gateway("127.0.0.1:1", 10, Output.JSON), None, NEVER_S)
    assert caught.value.code is Exit.UNREACHABLE


def test_json_is_one_document_per_line(admin: FakeAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    with watching._display(Output.JSON) as (show, _), Admin(admin.address, 10) as client, pytest.raises(Done):
        follow(client, None, 0.01, until([show, show]))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["models"][0]["release"]["revision"] for line in lines] == [6, 6]


def test_without_a_terminal_a_line_comes_only_with_news(admin: FakeAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    with watching._display(Output.TABLE) as (show, _), Admin(admin.address, 10) as client, pytest.raises(Done):
        follow(client, None, 0.01, until([show, show, show]))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("digits revision 6: stable 1")


def test_a_gateway_that_goes_away_is_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = serve(FakeAdmin()), FakeAdmin()
    addresses = [next(first).address]
    running = [first]

    def pause(_: float) -> None:
        again = serve(second)
        addresses[0] = next(again).address
        running.append(again)

    def line(found: list[Overview]) -> None:
        if len(running) == 2:
            raise Done
        first.close()

    class Moving(Gateway):
        def connect(self) -> Admin:  # type: ignore[override] # an Admin is a context manager, too
            return Admin(addresses[0], 10)

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(watching, "_json_line", line)
    with pytest.raises(Done):
        watch_status(Moving("moving:1", 10, Output.JSON), None, 5.0)
    running[1].close()
    assert capsys.readouterr().err.endswith("; trying again\n")
