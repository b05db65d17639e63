"""Paging: sizes, and opaque page tokens for the audit log (AIP-158). A token is only good for the list it came from."""

import base64
import binascii

from gateway.errors import InvalidRequest

DEFAULT_PAGE = 100
MAX_PAGE = 1_000


def page_size(asked: int, default: int = DEFAULT_PAGE, most: int = MAX_PAGE) -> int:
    """0: the default; more than the most: the most. Raises InvalidRequest when negative."""
    if asked < 0:
        raise InvalidRequest(f"page_size must not be negative, but is {asked}")
    return min(asked or default, most)


def token(model: str | None, before_sequence: int) -> str:
    """The token of the page with events older than that."""
    return base64.urlsafe_b64encode(f"{before_sequence}:{model or ''}".encode()).decode().rstrip("=")


def before_sequence(page_token: str, model: str | None) -> int | None:
    """What `token` was made of; None for the first page. Raises InvalidRequest."""
    if not page_token:
        return None
    try:
        padded = page_token.encode() + b"=" * (-len(page_token) % 4)
        sequence, _, made_for = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
        if made_for == (model or "") and sequence.isascii() and sequence.isdigit() and len(sequence) < 19:
            return int(sequence)
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest("page_token is not from this list: start again without one")
