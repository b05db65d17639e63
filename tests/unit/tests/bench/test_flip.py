"""What is made of the measurements, and what one write to a store is."""

from pathlib import Path

from tests.bench import flip
from tests.bench.flip import Found


def found(slowest_ms: float) -> Found:
    return Found([5.0] * 98 + [slowest_ms] * 2, [6.0], [1.0, 2.0], [0.5], [80.0])


def test_the_table_has_what_the_caller_sees_and_what_it_is_made_of() -> None:
    rows = list(flip.table(found(40.0)))
    assert rows[0] == "| ms, 100 flips | p50 | p99 | most |"
    assert "| Flip, from the RPC to its OK | 5.00 | 40.00 | 40.00 |" in rows
    assert "| Flip at one of three gateways on one PostgreSQL | 80.00 | 80.00 | 80.00 |" in rows
    assert "| one write to a store on this disk | 0.50 | 0.50 | 0.50 |" in rows


def test_the_aim_is_about_the_slowest_in_a_hundred() -> None:
    assert [aim.verdict for aim in flip.aimed(found(50.0))] == ["reached"]
    assert [aim.verdict for aim in flip.aimed(found(50.1))] == ["not reached"]


async def test_writes_to_a_store_take_time(tmp_path: Path) -> None:
    took_ms = await flip.commits_ms(tmp_path, 2)
    assert len(took_ms) == 2
    assert min(took_ms) > 0
