"""Log-linear histogram of microseconds: a plain list of counts that proxies fill and anyone can add up.

Each power of two is cut into 8 equal buckets (HdrHistogram's scheme), so a value is known to 12.5 % of itself at worst.
Values up to 7 µs are exact; the last bucket holds everything from 2**37 µs (38 hours).
"""

from collections.abc import Mapping

SUB_BITS = 3
MAX_BITS = 37
BUCKET_COUNT = ((MAX_BITS - SUB_BITS + 1) << SUB_BITS) + 1


def index(value_us: int) -> int:
    """The bucket of a duration in microseconds (negative counts as 0)."""
    if value_us < 8:
        return value_us if value_us > 0 else 0  # noqa: FURB136 - a call to max() costs, and proxies do this per request
    shift = value_us.bit_length() - 4
    found = (shift << 3) + (value_us >> shift)
    return found if found < BUCKET_COUNT else BUCKET_COUNT - 1


def lower_bound_us(bucket: int) -> int:
    """The smallest duration that falls into the bucket."""
    if bucket < 16:
        return bucket
    shift = (bucket >> 3) - 1
    return ((bucket & 7) + 8) << shift


def upper_bound_us(bucket: int) -> int:
    """The smallest duration above the bucket."""
    return lower_bound_us(bucket + 1)


def quantile_us(counts: Mapping[int, int], fraction: float) -> float:
    """The duration below which `fraction` of the counted values lie, interpolated inside its bucket; 0.0 when empty."""
    total = sum(counts.values())
    if not total:
        return 0.0
    rank = fraction * total
    seen = 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if seen + count >= rank:
            low, high = lower_bound_us(bucket), upper_bound_us(bucket)
            return low + (high - low) * max(0.0, rank - seen) / count
        seen += count
    return float(upper_bound_us(max(counts)))
