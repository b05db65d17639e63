"""Page sizes, tokens and pages."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane import pages
from gateway.controlplane.pages import Listing, Number, page_size, size_or_all
from gateway.errors import InvalidRequest
from protos import admin_pb2 as pb

Entry = tuple[str, int]
LISTED = Listing[Entry]("versions", tuple[str, Number], lambda entry: entry)


def message(entry: Entry) -> pb.Version:
    return pb.Version(model=entry[0], version=entry[1])


def test_sizes_have_a_default_and_a_most() -> None:
    assert [page_size(asked) for asked in (0, 1, 1_000, 1_001)] == [100, 1, 1_000, 1_000]
    assert [page_size(asked, 7, 9) for asked in (0, 8, 10)] == [7, 8, 9]
    with pytest.raises(InvalidRequest, match="must not be negative, but is -1"):
        page_size(-1)


def test_some_lists_come_whole_unless_asked_otherwise() -> None:
    assert [size_or_all(asked) for asked in (0, 1, 1_001)] == [None, 1, 1_000]
    with pytest.raises(InvalidRequest):
        size_or_all(-1)


@given(st.sets(st.tuples(st.text(st.characters(codec="utf-8")), st.integers(0, 2**62))), st.integers(1, 5))
def test_pages_follow_each_other_without_a_gap_or_a_repeat(found: set[Entry], size: int) -> None:
    token, seen = "", []
    while True:
        page, token = LISTED.take(LISTED.after(token, sorted(found)), size, message)
        assert len(page) <= size
        seen += [(one.model, one.version) for one in page]
        if not token:
            break
    assert seen == sorted(found)


def test_what_comes_or_goes_meanwhile_moves_nothing_else() -> None:
    _, token = LISTED.take([("a", 1), ("a", 2), ("b", 1)], 2, message)
    assert LISTED.after(token, [("a", 0), ("b", 1), ("c", 1)]) == [("b", 1), ("c", 1)]


def test_a_page_ends_early_when_it_grows_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1)
    entries = [("a", 1), ("a", 2)]
    page, token = LISTED.take(entries, 2, message)
    assert (len(page), LISTED.after(token, entries)) == (1, [("a", 2)])
    page, token = LISTED.take(entries, None, message)
    assert (len(page), token) == (2, ""), "who knows no pages gets all of it"


def written(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        written(["releases", "a", 1]),
        written(["versions", "a"]),
        written(["versions", 1, "a"]),
        written(["versions", "a", 1, 2]),
        written(["versions", "a", -1]),
        written(["versions", "a", 1 << 63]),
        written({}),
        written([]),
        "=",
        "Ünïcødé",
    ],
)
def test_a_token_of_another_list_or_of_nobody_is_invalid(token: str) -> None:
    with pytest.raises(InvalidRequest, match="page_token is not from this list") as caught:
        LISTED.last(token)
    assert caught.value.field == "page_token"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_anything_is_read_or_invalid(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        LISTED.last(text)
