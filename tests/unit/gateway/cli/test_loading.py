import itertools
import time

import grpc
import pytest

from tests.unit.gateway.cli.fake import Shell


def test_load_waits_until_the_version_is_ready(cutover: Shell) -> None:
    said = cutover("load", "digits", "2")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("digits: version 2 loaded, in ")
    assert cutover.admin.requests[-1].name == "models/digits/versions/2"
    assert [wait.name for wait in cutover.admin.waits] == ["operations/1", "operations/1"]


def test_warm_says_for_how_long(cutover: Shell) -> None:
    assert cutover("warm", "digits", "2").out.startswith("digits: version 2 warm, for at least 1h, in ")
    assert cutover("warm", "digits", "2", "--for", "90m", "-o", "json").json["version"] == 2
    assert [request.keep_s for request in cutover.admin.requests] == [3_600, 5_400]
    assert len({request.request_id for request in cutover.admin.requests}) == 2


@pytest.mark.parametrize("keep", ["1", "25h", "soon", "1ms"])
def test_a_duration_has_a_unit_and_an_end(cutover: Shell, keep: str) -> None:
    said = cutover("warm", "digits", "2", "--for", keep)
    assert (said.code, cutover.admin.requests) == (2, [])
    assert said.err.startswith(f"cutover: --for {keep}")


def test_a_version_that_cannot_be_loaded_is_refused(cutover: Shell) -> None:
    cutover.admin.error = (grpc.StatusCode.FAILED_PRECONDITION, "digits version 2 cannot be loaded: it is broken")
    said = cutover("load", "digits", "2")
    assert (said.code, said.err) == (1, "cutover: digits version 2 cannot be loaded: it is broken\n")


def test_patience_ends_and_the_operation_does_not(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now_s)))
    said = cutover("load", "digits", "2", "--timeout", "1")
    assert said.code == 3
    assert "models/digits/versions/2 is not ready after 1 s (--timeout), and goes on loading" in said.err
