"""The one thing about our own certificate that the standard library does not tell: from when to when it is valid. Pure.

DER as in X.690, certificates as in RFC 5280 section 4.1.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18


def validity(der: bytes) -> tuple[int, int]:
    """notBefore and notAfter of a certificate, in Unix seconds. Raises ValueError when it is none."""
    try:
        fields = list(_inside(_inside_of(der, SEQUENCE)))
        body = list(_inside(_expect(fields[0], SEQUENCE)))
        at = 4 if body[0][0] == VERSION else 3  # serial number, signature algorithm and issuer stand before it
        not_before, not_after = _inside(_expect(body[at], SEQUENCE))
        return _unix_s(*not_before), _unix_s(*not_after)
    except (IndexError, ValueError) as error:
        raise ValueError("not a certificate") from error


def _inside_of(der: bytes, tag: int) -> bytes:
    return _expect(next(_inside(der), (0, b"")), tag)


def _expect(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError(f"tag 0x{element[0]:02x} instead of 0x{tag:02x}")
    return element[1]


def _inside(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element."""
    at = 0
    while at < len(content):
        tag, size, at = content[at], content[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(content[at : at + count], "big"), at + count
        if at + size > len(content):
            raise ValueError("cut off")
        yield tag, content[at : at + size]
        at += size


def _unix_s(tag: int, content: bytes) -> int:
    """A Time (RFC 5280 section 4.1.2.5): UTCTime up to 2049, GeneralizedTime afterwards; always UTC, with seconds."""
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("no time")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
