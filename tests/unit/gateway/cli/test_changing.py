import contextlib
import uuid

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.changing import basis_points
from gateway.cli.failure import Exit, Failure
from tests.unit.gateway.cli.fake import Shell


def test_flip_says_what_happened(cutover: Shell) -> None:
    said = cutover("flip", "digits", "--reason", "v2 is fine")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("digits: 1 -> 2, revision 7, applied by every proxy in ")
    assert said.out.endswith(" ms\n")
    assert said.out.count("\n") == 1, "nothing ended with the flip"


def test_rollback_takes_it_back(cutover: Shell) -> None:
    cutover("flip", "digits")
    first, second = cutover("rollback", "digits").out.splitlines()
    assert first.startswith("digits: 2 -> 1, revision 8, applied by every proxy in ")
    assert second == "  restored: stable 1"


def test_flip_says_what_ended_and_rollback_what_is_back(cutover: Shell) -> None:
    cutover("canary", "set", "digits", "2", "--percent", "10")
    cutover("shadow", "set", "digits", "2")
    cutover("standby", "set", "digits", "2")
    assert cutover("flip", "digits").out.splitlines()[1:] == ["  ended: canary 2 (10 %), shadow 2 (100 %)"]
    assert cutover("rollback", "digits").out.splitlines()[1:] == [
        "  restored: stable 1, canary 2 (10 %), shadow 2 (100 %), standby 2"
    ]


def test_rules_that_ended_with_a_flip_are_named(cutover: Shell) -> None:
    cutover.admin.releases["digits"].policy.rules.add(key="x-team", values=["qa"], arm="standby")
    assert cutover("flip", "digits").out.splitlines()[1:] == ["  ended: 1 rule"]


def test_promote_is_a_switch_of_a_canary(cutover: Shell) -> None:
    cutover("canary", "set", "digits", "2", "--percent", "10")
    first, second = cutover("promote", "digits", "2").out.splitlines()
    assert first.startswith("digits: 1 -> 2, revision 8, applied by every proxy in ")
    assert second == "  ended: canary 2 (10 %)"
    assert cutover.admin.requests[-1].version == 2


def test_rollback_can_name_a_revision(cutover: Shell) -> None:
    cutover("flip", "digits")
    assert cutover("rollback", "digits", "--to", "3").code == 0
    assert cutover.admin.requests[-1].revision == 3
    assert cutover("rollback", "digits", "--to", "-1").code == 2
    assert cutover("rollback", "digits", "--to", str(2**63)).code == 2, "no message can hold it"


def test_a_change_carries_who_why_and_the_etag_it_read(cutover: Shell) -> None:
    cutover("flip", "digits", "--reason", "v2 is fine")
    (request,) = cutover.admin.requests
    assert (request.name, request.etag, request.reason) == ("models/digits/release", '"6-abcdef01"', "v2 is fine")
    assert uuid.UUID(request.request_id).version == 4
    assert "@" in cutover.admin.metadata["cutover-actor"]


def test_a_given_etag_and_request_id_are_used(cutover: Shell) -> None:
    cutover("flip", "digits", "--etag", "5-00000000", "--request-id", "mine")
    (request,) = cutover.admin.requests
    assert (request.etag, request.request_id) == ("5-00000000", "mine")


def test_json_is_the_release_after_the_change(cutover: Shell) -> None:
    after = cutover("flip", "digits", "--request-id", "mine", "-o", "json").json
    assert (after["model"], after["revision"], after["policy"]["stable_version"]) == ("digits", 7, 2)
    assert after["request_id"] == "mine"
    assert after["took_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "request_said", "said"),
    [
        (("shadow", "set", "digits", "2"), {"version": 2, "rate": 1.0}, "version 2 gets copies of 100 %"),
        (("shadow", "set", "digits", "3", "--rate", "0.1"), {"version": 3, "rate": 0.1}, "gets copies of 10 %"),
        (("shadow", "remove", "digits", "3"), {"version": 3}, "version 3 gets no more copies"),
        (("canary", "set", "digits", "2", "--percent", "10"), {"basis_points": 1000}, "version 2 answers 10 %"),
        (("canary", "set", "digits", "2", "--percent", "0.01"), {"basis_points": 1}, "version 2 answers 0.01 %"),
        (("canary", "remove", "digits", "2"), {"version": 2}, "version 2 answers nobody as canary"),
        (("standby", "set", "digits", "2"), {"version": 2}, "version 2 stands by"),
    ],
)
def test_changes_ask_for_what_was_said(
    cutover: Shell, arguments: tuple[str, ...], request_said: dict[str, float], said: str
) -> None:
    result = cutover(*arguments)
    assert result.code == 0
    assert said in result.out
    (request,) = cutover.admin.requests
    assert {name: getattr(request, name) for name in request_said} == request_said


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION])
def test_a_refusal_is_one_line_and_exit_1(cutover: Shell, code: grpc.StatusCode) -> None:
    cutover.admin.error = (code, "digits has no standby:\nset one first")
    said = cutover("flip", "digits", "-o", "json")
    assert (said.code, said.out, said.err) == (1, "", "cutover: digits has no standby: set one first\n")


def test_unavailable_said_by_the_gateway_is_a_refusal(cutover: Shell) -> None:
    cutover.admin.error = (grpc.StatusCode.UNAVAILABLE, "the store did not answer; nothing changed")
    said = cutover("flip", "digits")
    assert (said.code, said.err) == (1, "cutover: the store did not answer; nothing changed\n")


def test_an_unknown_model_is_a_refusal(cutover: Shell) -> None:
    assert cutover("flip", "nothing").code == Exit.REFUSED


@pytest.mark.parametrize("rate", ["0", "-1", "1.01", "nan"])
def test_a_rate_that_is_no_share_is_refused_before_asking(cutover: Shell, rate: str) -> None:
    said = cutover("shadow", "set", "digits", "2", f"--rate={rate}")
    assert said.code == Exit.USAGE
    assert "--rate" in said.err
    assert cutover.admin.requests == []


@pytest.mark.parametrize("percent", ["0", "0.001", "0.005", "100.01", "-1", "ten", "nan", "inf", "", "1e400"])
def test_a_percent_that_is_no_step_is_refused_before_asking(cutover: Shell, percent: str) -> None:
    said = cutover("canary", "set", "digits", "2", f"--percent={percent}")
    assert said.code == Exit.USAGE
    assert "0.01 to 100" in said.err
    assert cutover.admin.requests == []


def test_an_empty_etag_is_not_taken_for_none(cutover: Shell) -> None:
    said = cutover("flip", "digits", "--etag", "")
    assert (said.code, cutover.admin.requests) == (2, [])


@given(st.integers(1, 10_000))
def test_every_step_of_a_hundredth_is_exact(points: int) -> None:
    text = f"{points // 100}.{points % 100:02}"
    assert basis_points(text) == basis_points(f" {text} %") == points


@given(st.text(max_size=8))
def test_any_other_text_fails_cleanly(text: str) -> None:
    with contextlib.suppress(Failure):
        assert 1 <= basis_points(text) <= 10_000


def test_a_dry_run_says_what_would_become_of_the_release(cutover: Shell) -> None:
    said = cutover("canary", "set", "digits", "2", "--percent", "10", "--dry-run")
    assert cutover.admin.requests[-1].validate_only
    assert said.out == "digits: would be stable 1, canary 2 (10 %), revision 7; nothing was changed\n"
    document = cutover("flip", "digits", "--dry-run", "-o", "json").json
    assert (document["dry_run"], document["revision"]) == (True, 8)
    cutover("flip", "digits")
    assert not cutover.admin.requests[-1].validate_only


def test_a_dry_run_is_not_asked_of_a_gateway_that_would_make_the_change(cutover: Shell) -> None:
    cutover.admin.releases["digits"].sequence = 0
    said = cutover("flip", "digits", "--dry-run")
    assert (said.code, cutover.admin.requests) == (1, [])
    assert "too old for --dry-run" in said.err
