"""Results of a comparison that nobody ran."""

from loadtests.bench.openloop import Found
from loadtests.compare.rows import Row
from loadtests.recorder import Histogram


def found(p99_us: int = 1000, count: int = 100, refused: int = 0, delay_us: float = 0.0) -> Found:
    """All answers but one in a hundred take a tenth of `p99_us`."""
    latencies = Histogram()
    for number in range(count):
        latencies.add(p99_us if number % 100 >= 98 else p99_us // 10)
    answers = {"OK": count} | ({"RESOURCE_EXHAUSTED": refused} if refused else {})
    return Found((count + refused) / 1.0, 1.0, answers, 0, 0, latencies, delay_us)


def row(name: str, rate: float, single_p50_us: float = 100.0, common: Found | None = None) -> Row:
    """A peer's row."""
    own = {0.5: found(), 0.7: found(2000), 0.9: None}
    return Row(name, "1.0", rate, single_p50_us, 12.3, 150_000_000, own, common, 20.0 if common else None)
