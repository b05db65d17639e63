"""Where we and `h2` read the rules for header lists (RFC 9113 sections 8.2 and 8.3) differently."""

from collections.abc import Callable
from typing import Final

from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers

from tests.properties.reference.theirs import Pairs

Fix = Callable[[Pairs], Pairs]
NAMES: Final = b":method", b":scheme", b":path"


def malformed(pairs: Pairs, *, trailers: bool) -> bool:
    """Whether a header list breaks the rules, by h2's reading."""
    lengths = values_of(pairs, b"content-length")
    if not all(value.isdigit() for value in lengths) or len({int(value) for value in lengths}) > 1:
        return True
    try:
        list(validate_headers(pairs, HeaderValidationFlags(False, trailers, False, False)))
    except ProtocolError:
        return True
    return False


def values_of(pairs: Pairs, name: bytes) -> list[bytes]:
    return [value for each, value in pairs if each == name]


def liked(pairs: Pairs, *, trailers: bool) -> tuple[list[str], Pairs]:
    """Names of what h2 minds about a list and we do not, and the list without; none if h2 minds something else."""
    names = []
    for name, (_, applies, fix) in LAX.items():
        fixed = fix(pairs) if applies in (None, trailers) else pairs
        if fixed != pairs:
            names.append(name)
            pairs = fixed
    return ([] if malformed(pairs, trailers=trailers) else names), pairs


def with_authority(pairs: Pairs) -> Pairs:
    if values_of(pairs, b":authority") or values_of(pairs, b"host"):
        return pairs
    return [(b":authority", b"x"), *pairs]


def with_one_host(pairs: Pairs) -> Pairs:
    """Of several, where there is no authority to differ from."""
    if len(values_of(pairs, b"host")) < 2 or any(values_of(pairs, b":authority")):
        return pairs
    return [*without(pairs, b"host"), (b"host", values_of(pairs, b"host")[0])]


def without_empty_authority(pairs: Pairs) -> Pairs:
    if values_of(pairs, b":authority") != [b""] or not values_of(pairs, b"host"):
        return pairs
    return without(pairs, b":authority")


def with_host_as_text(pairs: Pairs) -> Pairs:
    """The host spelled as the authority is, where UTF-8 of one and ISO 8859-1 of the other are the same text."""
    authority, host = values_of(pairs, b":authority"), values_of(pairs, b"host")
    if len(authority) != 1 or len(host) != 1 or text(authority[0]) != text(host[0]):
        return pairs
    return [(name, authority[0] if name == b"host" else value) for name, value in pairs]


def without_connect(pairs: Pairs) -> Pairs:
    """CONNECT as an ordinary method, where it has all an ordinary request has."""
    if values_of(pairs, b":method") != [b"CONNECT"] or not all(values_of(pairs, name) for name in NAMES):
        return pairs
    return [(name, b"POST" if name == b":method" else value) for name, value in pairs]


def without_length(pairs: Pairs) -> Pairs:
    return without(pairs, b"content-length")


def without_length_when_refused(pairs: Pairs) -> Pairs:
    method, kind = values_of(pairs, b":method"), values_of(pairs, b"content-type")
    if (
        method == [b"POST"]
        and kind[:1]
        and kind[0].startswith(b"application/grpc")
        and not values_of(pairs, b"grpc-timeout")
    ):
        return pairs
    return without_length(pairs)


def without_empty_cookies(pairs: Pairs) -> Pairs:
    joined = b"; ".join(values_of(pairs, b"cookie"))
    return pairs if joined.strip() == joined else [pair for pair in pairs if pair != (b"cookie", b"")]


def without(pairs: Pairs, name: bytes) -> Pairs:
    return [pair for pair in pairs if pair[0] != name]


def text(value: bytes) -> str:
    """As metadata."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def empty_pseudo(pairs: Pairs) -> bool:
    return any(value == b"" for name, value in pairs if name in NAMES)


def connect(pairs: Pairs) -> bool:
    return values_of(pairs, b":method") == [b"CONNECT"]


def odd_te(pairs: Pairs) -> bool:
    found = values_of(pairs, b"te")
    return bool(found) and found != [b"trailers"] and all(value.lower() == b"trailers" for value in found)


def odd_cookie(pairs: Pairs) -> bool:
    """One that is malformed by itself, or where it stands, but not when all are joined behind the rest."""
    places = [place for place, (name, _) in enumerate(pairs) if name == b"cookie"]
    last = max((place for place, (name, _) in enumerate(pairs) if name.startswith(b":")), default=0)
    blank = any(value.strip(b" \t") != value for value in values_of(pairs, b"cookie"))
    return bool(places) and (blank or places[0] < last)


def odd_length(pairs: Pairs) -> bool:
    found = values_of(pairs, b"content-length")
    return len(found) > 1 or any(len(value) >= 20 for value in found)


LAX: Final[dict[str, tuple[str, bool | None, Fix]]] = {
    "no-authority": (
        "Neither :authority nor host: nothing here needs them, and 8.3.1 lets a request be without",
        False,
        with_authority,
    ),
    "empty-authority": (
        "An empty :authority says nothing, so host cannot differ from it (8.3.1)",
        False,
        without_empty_authority,
    ),
    "several-hosts": (
        "Several host fields, which 8.3.1 does not mention, are metadata like any other: nothing is chosen by host",
        False,
        with_one_host,
    ),
    "host-as-text": ("host and :authority are compared as text (8.3.1)", False, with_host_as_text),
    "connect-with-path": ("CONNECT is not offered (8.5): 405, whatever it has", False, without_connect),
    "length-of-refused": (
        "A request that is refused (405, 415, timeout) is answered before its content-length is read (8.1.1)",
        False,
        without_length_when_refused,
    ),
    "empty-cookies": (
        "An empty cookie is a field like any other (8.2.1); h2 joins it to others (8.2.3) and minds the blank",
        None,
        without_empty_cookies,
    ),
    "length-in-trailers": ("content-length in trailers says nothing (RFC 9110 6.5.1)", True, without_length),
}
"""Names of what h2 minds and we do not: why, whether in trailers (None: anywhere), and the list as h2 would like it."""

STRICT: Final[dict[str, tuple[str, Callable[[Pairs], bool]]]] = {
    "empty-pseudo": (
        "An empty :method or :scheme is malformed: neither may be empty by its grammar (8.3.1)",
        empty_pseudo,
    ),
    "connect": (
        "CONNECT is not offered (8.5): a request without :path is malformed, and :protocol is unknown",
        connect,
    ),
    "te": ("te is the text trailers, once and in lower case, or malformed (8.2.2)", odd_te),
    "odd-cookie": (
        "Each cookie field is a field (8.2.1, 8.3); h2 looks at them when it has joined them (8.2.3)",
        odd_cookie,
    ),
    "odd-length": (
        "A list of lengths (RFC 9110 8.6 allows to refuse it), or one of 20 digits, is malformed",
        odd_length,
    ),
}
"""Names of what we mind and h2 does not."""
