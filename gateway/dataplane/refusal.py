"""The one place where an error becomes a gRPC status on the data plane."""

from typing import Final

from gateway.errors import RequestError
from gateway.oip import status
from gateway.transport.call import NO_TRAILERS, Call, Stream, Trailers

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""How long a client's retry policy is to wait (gRFC A6)."""
MAX_KNOWN: Final = 1024
MAX_KNOWN_CHARS: Final = 200
"""Longer texts hold what callers sent: they do not come again."""

_Refusal = tuple[str, Trailers]
_Key = tuple[type[RequestError], str, int | None, Trailers]
_known: dict[_Key, _Refusal] = {}
"""Under overload the same refusal goes out thousands of times a second; its trailers are encoded once."""


def refuse(call: Call | Stream, error: RequestError, trailers: Trailers = NO_TRAILERS) -> None:
    """Fails the call with the error's code, its text, and `trailers` extended by the pushback and the details."""
    text = str(error)
    key = (type(error), text, error.pushback_ms, trailers)
    known = _known.get(key)
    if known is None:
        known = _refusal(error, text, trailers)
        if len(text) <= MAX_KNOWN_CHARS:
            if len(_known) >= MAX_KNOWN:
                _known.clear()
            _known[key] = known
    call.fail(error.code, *known)


def _refusal(error: RequestError, text: str, trailers: Trailers) -> _Refusal:
    pairs: list[tuple[str, str | bytes]] = [*trailers.pairs]
    if error.pushback_ms is not None:
        pairs.append((PUSHBACK, str(error.pushback_ms)))
    pairs.append((status.DETAILS, status.details(error)))
    return status.cut(text), Trailers(*pairs)
