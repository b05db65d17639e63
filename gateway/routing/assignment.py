"""Assignment: which bucket a unit falls into, and which arm owns the bucket. Vectors: DESIGN of the project, README."""

from typing import Final

import mmh3

from gateway.routing.snapshot import BUCKETS

HASH_BITS: Final = 32


def bucket(salt: str, unit: str) -> int:
    """MurmurHash3 x86_32 of the UTF-8 bytes of `"{salt}:{unit}"`, seed 0, scaled to 0..9999."""
    return (mmh3.hash(f"{salt}:{unit}".encode(), 0, signed=False) * BUCKETS) >> HASH_BITS


def first_hash(number: int) -> int:
    """The smallest hash that falls into this bucket; of BUCKETS: one more than the largest there is."""
    return -(-(number << HASH_BITS) // BUCKETS)
