import pytest

from tests.unit.gateway.cli.fake import Shell


def test_units_are_sent_to_an_arm(cutover: Shell) -> None:
    said = cutover("override", "set", "digits", "--unit", "ann", "--unit", "bob", "--arm", "stable", "--reason", "vip")
    assert said.out.startswith("digits: 2 units overridden to stable, revision 7, applied by every proxy in ")
    (request,) = cutover.admin.requests
    assert (dict(request.overrides), list(request.remove)) == ({"ann": "stable", "bob": "stable"}, [])
    assert (request.etag, request.reason) == ('"6-abcdef01"', "vip")


def test_units_go_where_their_bucket_goes_again(cutover: Shell) -> None:
    cutover.admin.overrides = {"ann": "stable", "bob": "stable"}
    said = cutover("override", "remove", "digits", "--unit", "ann", "--unit", "ann")
    assert said.out.startswith("digits: 1 unit no longer overridden, revision 7, ")
    (request,) = cutover.admin.requests
    assert (dict(request.overrides), list(request.remove)) == ({}, ["ann"])


def test_the_list_is_shown_whole_by_unit(cutover: Shell) -> None:
    cutover.admin.overrides = {f"user-{number}": "canary-2" for number in reversed(range(8))}
    lines = cutover("override", "list", "digits").out.splitlines()
    assert lines[0].split() == ["UNIT", "ARM"]
    assert [line.split() for line in lines[1:]] == [[f"user-{number}", "canary-2"] for number in range(8)]
    document = cutover("override", "list", "digits", "-o", "json").json
    assert document == {"model": "digits", "overrides": cutover.admin.overrides}


def test_an_empty_list_says_so(cutover: Shell) -> None:
    assert cutover("override", "list", "digits").out == "no unit is overridden\n"


@pytest.mark.parametrize("arguments", [("set", "digits", "--unit", "ann"), ("remove", "digits")])
def test_what_is_missing_is_wrong_usage(cutover: Shell, arguments: tuple[str, ...]) -> None:
    assert cutover("override", *arguments).code == 2


def test_who_is_overridden_is_seen_everywhere(cutover: Shell) -> None:
    cutover("override", "set", "digits", "--unit", "user-1", "--arm", "stable")
    assert "  1 override" in cutover("status", "digits").out
    found = cutover("assign", "digits", "--unit", "user-1", "--unit", "user-2", "-o", "json").json["assignments"]
    assert [(one["arm"], one["version"], one["reason"]) for one in found] == [
        ("stable", 1, "override"),
        ("stable", 1, "stable"),
    ]


def test_a_flip_says_how_many_ended_and_a_rollback_how_many_are_back(cutover: Shell) -> None:
    cutover("override", "set", "digits", "--unit", "ann", "--unit", "bob", "--arm", "standby")
    assert cutover("flip", "digits").out.splitlines()[1:] == ["  ended: 2 overrides"]
    assert cutover("rollback", "digits").out.splitlines()[1:] == ["  restored: stable 1, 2 overrides"]
