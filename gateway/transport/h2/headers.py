"""Header blocks become requests. The same bytes, or the same fields with another request id, are not read twice.

Three ways, the cheapest first: a block whose bytes are known says what it said before, as long as the HPACK table has
not changed; one whose fields from the table are known (whatever their indices are today) is that request, with what is
spelled out besides put into a copy of its metadata; any other is read field by field.
"""

import logging
import math
from collections.abc import Callable
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Handler, Metadata, Peer, Service, Streaming
from gateway.transport.h2 import fields
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Refusal
from gateway.transport.h2.grpc import timeout_s as read_timeout_s
from gateway.transport.h2.hpack import Block, Decoder, Entry, HeaderListTooLarge, HpackError
from gateway.transport.h2.limits import HEADER_TABLE_BYTES, Limits
from gateway.transport.peers import vouch

logger = logging.getLogger(__name__)

KNOWN_BYTES: Final = 64 << 10
"""What a connection remembers of header blocks, encoded and decoded; then it begins anew."""
KNOWN_BLOCK_BYTES: Final = 2048
"""Longer header blocks are not remembered."""
KNOWN_OVERHEAD_BYTES: Final = 1024
"""What remembering a block costs besides its text, roughly."""
MAX_PATTERN_BYTES: Final = 2048
"""Longer sets of fields from the table are not remembered: a peer that sends many must not make us keep them."""
MAX_PATTERNS: Final = 32
"""Sets of fields remembered; then it begins anew."""
MAX_SPELLED: Final = 8
"""Fields spelled out in a block that follows a pattern."""
SEEN: Final = 256
"""Blocks that spell fields out are remembered when they come again soon: request ids shall not fill the memory."""

Request = tuple[Metadata, Handler, float, int | None]
"""What a header block says: metadata, its handler, timeout in seconds (infinity: none), content-length or None."""
StreamingRequest = tuple[Metadata, Streaming, float, int | None]
"""The same of a streaming call."""


class Pattern:
    """What the fields of a block say that came from the table."""

    __slots__ = ("handler", "length", "metadata", "pseudo", "size_bytes")

    def __init__(self, metadata: Metadata, handler: Handler, length: int | None, pseudo: int, size_bytes: int) -> None:
        self.metadata = metadata
        self.handler = handler
        self.length = length
        self.pseudo = pseudo
        """How many pseudo-headers there are: nothing else may come before them."""
        self.size_bytes = size_bytes
        """What the fields are charged."""


class HeaderReader:
    """Reads the header blocks of one connection, all of them, in their order."""

    __slots__ = ("_decoder", "_known_bytes", "_limits", "_patterns", "_peer", "_seen", "_service", "known")

    def __init__(self, service: Service, limits: Limits, peer: Callable[[], Peer]) -> None:
        """`peer()` says who the peer is."""
        self.known: dict[bytes, Request] = {}
        """Requests by the bytes of their header block; valid while the HPACK table has not changed."""
        self._known_bytes = 0
        self._patterns: dict[tuple[Entry, ...], Pattern] = {}
        self._seen: list[int] = []
        self._limits = limits
        self._service = service
        self._peer = peer
        self._decoder = Decoder(HEADER_TABLE_BYTES, limits.max_header_list_bytes, limits.max_header_fields)

    def read(self, block: bytes) -> Request | StreamingRequest:
        """What the header block of a new request says.

        Raises as `fields.read` and `decode`, and Refusal when it is too large.
        """
        known = self.known.get(block)
        if known is not None:
            return known
        decoder = self._decoder
        generation = decoder.generation
        decoded = self._decode(block)
        pattern = self._patterns.get(tuple(decoded.indexed))
        request = None if pattern is None else follow(pattern, decoded, self._limits)
        if request is None:
            if not self._fits(decoded):
                raise too_large(self._limits)
            metadata = fields.read(decoded.entries(), self._resolve)
            vouch(metadata.values, self._peer())
            length, timeout_s = fields.content_length(metadata), metadata.timeout_s
            timeout_s = math.inf if timeout_s is None else timeout_s
            if isinstance(metadata.handler, Streaming):
                return metadata, metadata.handler, timeout_s, length
            assert metadata.handler is not None  # noqa: S101 - fields.read raises for an unknown path
            request = metadata, metadata.handler, timeout_s, length
            self._learn(decoded, metadata, metadata.handler, length)
        # A block that changed the table says something else the next time.
        if (
            decoder.generation == generation
            and len(block) <= KNOWN_BLOCK_BYTES
            and (not decoded.spelled or self._again(block))
        ):
            self._remember(block, request)
        return request

    def decode(self, block: bytes) -> Block | None:
        """The header list, or None when it is too large. Every block must pass here, or the HPACK table goes astray.

        Raises ConnectionFault COMPRESSION_ERROR.
        """
        decoded = self._decode(block)
        return decoded if self._fits(decoded) else None

    def _decode(self, block: bytes) -> Block:
        decoder = self._decoder
        generation = decoder.generation
        try:
            decoded = decoder.read(block)
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        if decoder.generation != generation and self.known:
            self.known.clear()
            self._known_bytes = 0
        return decoded

    def _fits(self, decoded: Block) -> bool:
        """Whether the header list is within the limits; raises as `decode` when it is absurd."""
        try:
            self._decoder.check(decoded)
        except HeaderListTooLarge:
            return False
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        return True

    def _resolve(self, path: str) -> Handler | Streaming | None:
        try:
            return self._service.resolve(path)
        except Exception as error:
            logger.exception("cannot resolve %r", path)
            raise Refusal(Code.INTERNAL, "internal error") from error

    def _learn(self, decoded: Block, metadata: Metadata, handler: Handler, length: int | None) -> None:
        """Remembers the pattern, unless it is long, or what is spelled out is more than metadata of its own."""
        size_bytes = sum([entry.size_bytes for entry in decoded.indexed])
        if len(decoded.spelled) > MAX_SPELLED or size_bytes > MAX_PATTERN_BYTES:
            return
        indexed = [entry.key or "" for entry in decoded.indexed]
        values, timeout_s = metadata.values.copy(), metadata.timeout_s
        for entry in decoded.spelled:
            key = entry.key or ""
            if key in indexed or not (entry.plain or key == "grpc-timeout"):
                return
            values.pop(key, None)
            if not entry.plain:
                timeout_s = None
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns.clear()
        for entry in decoded.indexed:
            entry.lasting = True
        base = Metadata(metadata.path, values, timeout_s, handler)
        pseudo = sum(key[0] == ":" for key in indexed)
        self._patterns[tuple(decoded.indexed)] = Pattern(base, handler, length, pseudo, size_bytes)

    def _again(self, block: bytes) -> bool:
        """Whether the block came before, not long ago."""
        mark = hash(block)
        seen = self._seen
        if not seen:
            seen = self._seen = [0] * SEEN
        slot = mark % SEEN
        if seen[slot] == mark:
            return True
        seen[slot] = mark
        return False

    def _remember(self, block: bytes, request: Request) -> None:
        values = request[0].values
        cost_bytes = KNOWN_OVERHEAD_BYTES + len(block) + sum(map(len, values)) + sum(map(len, values.values()))
        self._known_bytes += cost_bytes
        if self._known_bytes > KNOWN_BYTES:
            self.known.clear()
            self._known_bytes = cost_bytes
        self.known[block] = request


def follow(pattern: Pattern, decoded: Block, limits: Limits) -> Request | None:
    """The request of a block that follows the pattern; None when what it spells out must be looked at more closely."""
    base = pattern.metadata
    values, timeout_s, timeout = base.values.copy(), base.timeout_s, None
    spelled = decoded.spelled
    if spelled:
        size_bytes = pattern.size_bytes
        if decoded.places[0] < pattern.pseudo or len(spelled) > MAX_SPELLED:
            return None
        if len(decoded.indexed) + len(spelled) > limits.max_header_fields:
            return None
        for entry in spelled:
            key = fields.understand(entry) if entry.key is None else entry.key
            size_bytes += entry.size_bytes
            if key in values or size_bytes > limits.max_header_list_bytes:
                return None
            if not entry.plain:
                if key != "grpc-timeout" or entry.fault:
                    return None
                timeout = entry.text
            values[key] = entry.text
        if timeout is not None:  # now that nothing is malformed
            timeout_s = read_timeout_s(timeout)
    metadata = Metadata(base.path, values, timeout_s, pattern.handler)
    return metadata, pattern.handler, math.inf if timeout_s is None else timeout_s, pattern.length


def too_large(limits: Limits) -> Refusal:
    """For metadata above the limit."""
    most = f"{limits.max_header_fields} fields, {limits.max_header_list_bytes} bytes with 32 for each field"
    return Refusal(Code.RESOURCE_EXHAUSTED, f"request metadata is larger than the limit ({most})", reason="headers")
