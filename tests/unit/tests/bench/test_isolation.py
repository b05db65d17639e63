from tests.bench.isolation import Rounds, p99_ms, table
from tests.bench.load import Load


def run(rate: float, p99_us: int) -> Load:
    return Load(100, 100 / rate, 0, [1000] * 98 + [p99_us] * 2)


def rounds(*pairs: tuple[Load, Load]) -> Rounds:
    copies = {"compared": 200.0, "incomparable": 0.0, "failed": 0.0, "dropped": 1234.0}
    return Rounds([one for one, _ in pairs], [other for _, other in pairs], copies)


def test_ratios_are_those_of_rounds() -> None:
    found = rounds(
        (run(1000, 2000), run(950, 2000)), (run(100, 9000), run(99, 9900)), (run(1000, 2000), run(500, 8000))
    )
    assert found.ratio(lambda one: one.rate) == 0.95
    assert found.ratio(p99_ms) == 1.1


def test_the_table_has_figures_aims_and_copies() -> None:
    found = rounds((run(1000, 2000), run(950, 3000)))
    lines = list(table(found, found))
    assert "| paced at 2,000 requests/s | p99 ms | 2.000 | 3.000 | × 1.500 | ≤ 1.05 |" in lines
    assert "| 4 × 16 in flight | requests/s | 1,000 | 950 | × 0.950 | ≥ 0.95 |" in lines
    assert lines[-1] == "| in flight | 100 | 100 | 200 | 0 | 0 | 1,234 |"
    tables = "\n".join(lines).split("\n\n")
    assert len(tables) == 2
    for each in tables:
        assert len({line.count("|") for line in each.splitlines()}) == 1
