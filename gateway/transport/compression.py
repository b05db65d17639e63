"""Message compression of gRPC (grpc/grpc doc/compression.md): each message by itself, gzip or deflate. Pure.

"deflate" is the zlib format (RFC 1950), as in HTTP, not bare RFC 1951.
"""

import zlib
from typing import Final

GZIP: Final = "gzip"
DEFLATE: Final = "deflate"
ENCODINGS: Final = {GZIP: zlib.MAX_WBITS | 16, DEFLATE: zlib.MAX_WBITS}
"""What is understood besides "identity", as zlib's window bits; those we would rather send come first."""
ACCEPTED: Final = "identity, deflate, gzip"
"""The value of grpc-accept-encoding."""
LEVEL: Final = zlib.Z_BEST_SPEED
"""The loop's thread compresses; on tensors the default level takes several times as long to save little."""


class Corrupt(Exception):
    """A message is not what its encoding says; the call is INTERNAL, as in grpc-core."""


class Oversized(Exception):
    """A message inflates to more than is allowed; the call is RESOURCE_EXHAUSTED."""


def decompress(encoding: str, data: bytes | memoryview, max_bytes: int) -> bytes:
    """The message that `data` is the whole compressed form of, at most `max_bytes` long. `encoding`: of ENCODINGS.

    Nothing beyond max_bytes + 1 is ever inflated, whatever the ratio. Strict as grpc-core's message_compress.cc is: one
    member that ends with the data. No data at all is an empty message, there as here. Raises Oversized, Corrupt.
    """
    if not data:
        return b""
    inflater = zlib.decompressobj(ENCODINGS[encoding])
    try:
        message = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise Corrupt(f"message is not {encoding}: {error}") from None
    if len(message) > max_bytes:
        raise Oversized(f"message inflates to more than {max_bytes} bytes")
    if not inflater.eof:
        raise Corrupt(f"{encoding} message is cut short")
    if inflater.unused_data:
        raise Corrupt(f"{encoding} message is followed by {len(inflater.unused_data)} bytes")
    return message


def compress(encoding: str, data: bytes | memoryview) -> bytes:
    """`data` in that encoding, one of ENCODINGS; noise gets a few bytes longer."""
    return zlib.compress(data, LEVEL, ENCODINGS[encoding])


def choose(accepted: str | None) -> str:
    """The encoding for messages to a peer with that grpc-accept-encoding, or "" when it takes none of ours."""
    if not accepted:
        return ""
    offered = {name.strip(" \t") for name in accepted.split(",")}
    return next((name for name in ENCODINGS if name in offered), "")
