"""Page sizes and tokens."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.pages import before_sequence, page_size, token
from gateway.errors import InvalidRequest


def test_sizes_have_a_default_and_a_most() -> None:
    assert [page_size(asked) for asked in (0, 1, 1_000, 1_001)] == [100, 1, 1_000, 1_000]
    assert [page_size(asked, 7, 9) for asked in (0, 8, 10)] == [7, 8, 9]
    with pytest.raises(InvalidRequest, match="must not be negative, but is -1"):
        page_size(-1)


@pytest.mark.parametrize("model", [None, "iris", "a:b", "Ünïcødé"])
def test_a_token_is_read_back(model: str | None) -> None:
    assert before_sequence(token(model, 17), model) == 17
    assert before_sequence("", model) is None


def test_a_token_of_another_list_is_invalid() -> None:
    with pytest.raises(InvalidRequest, match="page_token is not from this list"):
        before_sequence(token("iris", 17), "wine")
    with pytest.raises(InvalidRequest, match="page_token is not from this list"):
        before_sequence(token("iris", 17), None)


@pytest.mark.parametrize("text", ["-1:", "1.5:", ":", "", "9" * 30 + ":", "²:", "\xff"])
def test_a_token_with_nonsense_inside_is_invalid(text: str) -> None:
    with pytest.raises(InvalidRequest):
        before_sequence(base64.urlsafe_b64encode(text.encode("latin-1")).decode() or "=", None)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_anything_is_read_or_invalid(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        before_sequence(text, None)
