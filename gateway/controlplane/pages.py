"""Paging (AIP-158): sizes, opaque page tokens, and pages that clients can take. A token is only good for its list."""

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from google.protobuf.message import Message

from gateway.errors import InvalidRequest

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
MAX_PAGE_BYTES = 2 << 20
"""A page ends early here: clients refuse messages above 4 MiB unless told otherwise."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Key = tuple[str | int, ...]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""In a key: what databases can hold. Tokens come from callers."""


def page_size(asked: int, default: int = DEFAULT_PAGE, most: int = MAX_PAGE) -> int:
    """0: the default; more than the most: the most. Raises InvalidRequest when negative."""
    if asked < 0:
        raise InvalidRequest(f"page_size must not be negative, but is {asked}", "page_size")
    return min(asked or default, most)


def size_or_all(asked: int) -> int | None:
    """The same for lists whose first clients knew no pages and expect all of it. None: all."""
    return page_size(asked) if asked else None


class Listing(Generic[T]):
    """A list in one order, and what its entries are known by."""

    def __init__(self, name: str, kind: Any, key: Callable[[T], Key]) -> None:
        """`name`: tells tokens of different lists apart; `kind`: the type of its keys; `key` of an entry."""
        self._name = name
        self._kind = kind
        self._key = key

    def last(self, page_token: str) -> Any:
        """The key of the last entry of the page before; None: this is the first page. Raises InvalidRequest."""
        if not page_token:
            return None
        try:
            padded = page_token.encode() + b"=" * (-len(page_token) % 4)
            name, *key = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=list[Any])
            if name == self._name:
                return msgspec.convert(key, self._kind)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            pass
        raise InvalidRequest("page_token is not from this list: start again without one", "page_token")

    def after(self, page_token: str, entries: Iterable[T]) -> list[T]:
        """Those entries of an ascending list that come after the page before."""
        last = self.last(page_token)
        return [entry for entry in entries if last is None or self._key(entry) > last]

    def take(self, entries: list[T], size: int | None, message: Callable[[T], M]) -> tuple[list[M], str]:
        """The first of the entries as messages, and the token of the page that begins after them; "": that was all.

        `size` None: all of them, however large.
        """
        page: list[M] = []
        page_bytes = 0
        for entry in entries[:size]:
            made = message(entry)
            page_bytes += made.ByteSize()
            if size is not None and page and page_bytes > MAX_PAGE_BYTES:
                break
            page.append(made)
        return page, self._token(entries[len(page) - 1]) if len(page) < len(entries) else ""

    def _token(self, entry: T) -> str:
        written = msgspec.json.encode([self._name, *self._key(entry)])
        return base64.urlsafe_b64encode(written).decode().rstrip("=")
