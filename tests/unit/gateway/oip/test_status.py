import base64

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest, NotReady, QueueFull, Refusal, Refused, RequestError
from gateway.oip.status import DOMAIN, MAX_TEXT_BYTES, RETRY_MS, cut, details


def read(error: RequestError) -> tuple[int, str, error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo | None]:
    """What Google's library reads: (code, message, ErrorInfo, RetryInfo)."""
    found = status_pb2.Status.FromString(details(error))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert found.details[0].Unpack(info)
    assert len(found.details) == (2 if error.retryable else 1)
    if error.retryable:
        assert found.details[1].Unpack(retry)
    return found.code, found.message, info, retry if error.retryable else None


def test_an_error_says_what_it_is_and_whose() -> None:
    code, message, info, retry = read(InvalidRequest("no such input"))
    assert (code, message, info.reason, info.domain, retry) == (3, "no such input", "INVALID_REQUEST", DOMAIN, None)


def test_one_that_passes_says_when() -> None:
    retry = read(QueueFull("full", 250))[3]
    assert retry
    assert retry.retry_delay.ToMilliseconds() == 250
    retry = read(NotReady("loading"))[3]
    assert retry
    assert retry.retry_delay.ToMilliseconds() == RETRY_MS


def test_a_wrong_field_is_named() -> None:
    found = status_pb2.Status.FromString(details(InvalidRequest("rate must be above 0", "rate")))
    wrong = error_details_pb2.BadRequest()
    assert found.details[1].Unpack(wrong)
    (violation,) = wrong.field_violations
    assert (violation.field, violation.description) == ("rate", "rate must be above 0")
    assert len(status_pb2.Status.FromString(details(InvalidRequest("no such input"))).details) == 1


def test_what_is_in_another_state_is_named() -> None:
    error = Refused("iris is paused", Refusal.PAUSED)
    error.subject = "models/iris/release"
    found = status_pb2.Status.FromString(details(error))
    unmet = error_details_pb2.PreconditionFailure()
    assert found.details[1].Unpack(unmet)
    (violation,) = unmet.violations
    assert (violation.type, violation.subject) == ("PAUSED", "models/iris/release")
    assert violation.description == "iris is paused"


def test_the_longest_of_all_still_fits_into_a_client_s_headers() -> None:
    error = Refused("x" * 5_000)
    error.subject = "models/" + "x" * 5_000
    assert len(base64.b64encode(details(error))) + MAX_TEXT_BYTES < 8_192


@given(st.text(max_size=1500), st.integers(0, 10**9))
def test_google_s_library_reads_and_writes_the_same(text: str, pushback_ms: int) -> None:
    written = details(QueueFull(text, pushback_ms))
    found = status_pb2.Status.FromString(written)
    assert found.message == cut(text)
    retry = error_details_pb2.RetryInfo()
    assert found.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == pushback_ms
    assert found.SerializeToString(deterministic=True) == written


@pytest.mark.parametrize("text", ["x" * 5000, "ä" * 5000, "x" + "😊" * 1000])
def test_a_long_text_is_cut_between_characters(text: str) -> None:
    short = cut(text)
    assert text.startswith(short)
    assert MAX_TEXT_BYTES - 4 < len(short.encode()) <= MAX_TEXT_BYTES


def test_what_is_no_unicode_is_replaced() -> None:
    assert cut("x\ud800") == "x?"
    assert read(InvalidRequest("x\ud800"))[1] == "x?"
