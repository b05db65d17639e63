import inspect
import re

import grpc
import pytest

from gateway import errors
from gateway.errors import Code, CutoverError, QueueFull, RequestError, StartupError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, CutoverError)]
KINDS = [each for each in CLASSES if issubclass(each, RequestError) and each is not RequestError]
TREE = re.findall(r"^[|+ -]*\+-- (\w+) +([A-Z_]+)? ", errors.__doc__ or "", re.MULTILINE)


def test_codes_are_grpc_s() -> None:
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_on_the_page_is_the_tree_in_the_code(kind: type[RequestError]) -> None:
    assert dict(TREE)[kind.__name__] == kind.code.name


def test_every_error_is_on_the_page() -> None:
    assert {name for name, _ in TREE} == {each.__name__ for each in CLASSES if each is not CutoverError}


@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_may_help_only_where_the_state_can_change(kind: type[RequestError]) -> None:
    permanent = {
        Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.INTERNAL, Code.UNIMPLEMENTED, Code.FAILED_PRECONDITION,
        Code.ABORTED,
    }  # fmt: skip
    assert not (kind.retryable and kind.code in permanent)
    if kind.code == Code.UNAVAILABLE:
        assert kind.retryable


def test_an_error_is_one_line_for_the_person_it_concerns() -> None:
    error = QueueFull("full", 250)
    assert (str(error), error.pushback_ms, error.code) == ("full", 250, Code.RESOURCE_EXHAUSTED)
    assert StartupError("x").exit_code == 2


def test_machines_read_the_name_of_the_class() -> None:
    reasons = {kind.reason for kind in KINDS}
    assert len(reasons) == len(KINDS)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", reason) for reason in reasons), "google.rpc.ErrorInfo"
    assert (QueueFull.reason, errors.Late.reason) == ("QUEUE_FULL", "LATE")


def test_a_refusal_says_why_in_a_word() -> None:
    assert errors.Refused("x").reason == errors.Refused.reason == "REFUSED"
    assert errors.Refused("x", errors.Refusal.PAUSED).reason == "PAUSED"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", why) for why in errors.Refusal)


def test_a_call_that_is_wrong_may_say_which_field_is() -> None:
    assert (errors.InvalidRequest("x").field, errors.InvalidRequest("x", "rate").field) == ("", "rate")


def test_only_some_say_how_long_to_wait() -> None:
    assert errors.NotReady("x").pushback_ms is None
