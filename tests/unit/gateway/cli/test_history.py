import json
import time

import pytest
import typer

from tests.unit.gateway.cli.fake import Shell, release


def test_versions_are_shown_closely(cutover: Shell) -> None:
    cutover.admin.versions[1].inputs.add(name="X", datatype="FP32", shape=[-1, 30])
    out = cutover("versions", "digits").out
    assert "digits version 1  ready 2/2  stable" in out
    assert "digits version 2  ready 2/2  canary" in out
    assert "X  FP32 [any, 30]" in out
    assert "f" * 64 in out


def test_one_version_is_got_by_its_number(cutover: Shell) -> None:
    (found,) = cutover("versions", "digits", "2", "-o", "json").json["versions"]
    assert (found["version"], found["roles"]) == (2, ["canary"])
    assert cutover("versions", "digits", "7").code == 1


def test_revisions_are_followed_from_page_to_page(cutover: Shell) -> None:
    found = cutover("revisions", "digits", "--limit", "5", "-o", "json").json["revisions"]
    assert [one["revision"] for one in found] == [6, 5, 4, 3, 2]
    assert len(cutover("revisions", "digits", "-o", "json").json["revisions"]) == 6
    header, first, *_ = cutover("revisions", "digits").out.splitlines()
    assert header.split() == ["REVISION", "SEQUENCE", "TIME", "AFTER"]
    assert first.split()[0] == "6"
    assert first.endswith("stable 1")


def test_a_watch_prints_what_is_and_every_change(cutover: Shell) -> None:
    changed = release("digits", 7, stable=2)
    changed.paused = True
    cutover.admin.changed.put(changed)
    seen: list[str] = []
    watch(cutover, seen, 2)
    assert [line.partition(" ")[2] for line in seen] == [
        "digits revision 6 (sequence 6): stable 1",
        "digits revision 7 (sequence 7): stable 2, paused",
    ]


def test_a_watch_begins_after_what_was_seen(cutover: Shell) -> None:
    cutover.admin.changed.put(release("digits", 7, stable=2))
    seen: list[str] = []
    watch(cutover, seen, 1, "--after", "6", "-o", "json")
    assert [json.loads(line)["sequence"] for line in seen] == [7]


class Enough(Exception):
    """The test has seen what it wanted to."""


def watch(cutover: Shell, seen: list[str], count: int, *options: str) -> None:
    """Runs `cutover watch` until it has printed that much."""

    def echo(text: str = "", **_: object) -> None:
        seen.append(text)
        if len(seen) == count:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer, "echo", echo)
        assert cutover("watch", *options).code == 130


@pytest.mark.parametrize(("after", "first"), [((), 0), (("--after", "6"), 6)], ids=["from the start", "nothing seen"])
def test_a_watch_that_loses_the_gateway_comes_back_where_it_was(
    cutover: Shell, monkeypatch: pytest.MonkeyPatch, after: tuple[str, ...], first: int
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    for _ in range(2):
        cutover.admin.changed.put(None)
    said = cutover("watch", *after)
    assert (said.code, [request.after_sequence for request in cutover.admin.watched]) == (130, [first, 6])
    assert said.err.count("trying again") == 2


def test_a_gateway_that_was_never_there_is_an_error(cutover: Shell) -> None:
    assert cutover.local("watch", "--admin", "127.0.0.1:1").code == 3
