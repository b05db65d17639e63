import pytest

from gateway.cli.failure import Exit
from tests.unit.gateway.cli.fake import Shell


@pytest.mark.parametrize(
    ("arguments", "request_said", "said"),
    [
        (("abort", "digits"), {}, "stable answers, all canaries and the standby have ended, revision 7"),
        (("pause", "digits", "--reason", "until Monday"), {"reason": "until Monday"}, "paused, revision 7"),
        (("resume", "digits"), {}, "resumed, revision 7"),
        (("holdout", "set", "digits", "--percent", "2.5"), {"basis_points": 250}, "2.5 % are held out, revision 7"),
        (("holdout", "remove", "digits"), {}, "nobody is held out, revision 7"),
    ],
)
def test_changes_ask_for_what_was_said(
    cutover: Shell, arguments: tuple[str, ...], request_said: dict[str, object], said: str
) -> None:
    result = cutover(*arguments)
    assert result.code == 0
    assert said in result.out
    (request,) = cutover.admin.requests
    assert {name: getattr(request, name) for name in request_said} == request_said


def test_status_says_that_a_release_is_paused_and_who_is_held_out(cutover: Shell) -> None:
    cutover("pause", "digits")
    cutover("holdout", "set", "digits", "--percent", "5")
    said = cutover("status", "digits").out
    assert "paused" in said
    assert "5 % held out" in said


def test_a_share_that_is_none_is_refused_before_asking(cutover: Shell) -> None:
    said = cutover("holdout", "set", "digits", "--percent", "0")
    assert (said.code, cutover.admin.requests) == (Exit.USAGE, [])
