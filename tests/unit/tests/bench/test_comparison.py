import pytest

from tests.bench.comparison import Measured, Row, Shape, Side, compare, items_of, table, together, written
from tests.bench.servers import Echo


def shape(measure: object = None, **changes: object) -> Shape:
    values = {"name": "4 × 16", "client": "raw", "unit": "calls/s", "cpu_unit": "µs/call", "measure": measure}
    return Shape(**{**values, "items": 100, **changes})  # type: ignore[arg-type]  # built from names on purpose


def side(name: str, share: float = 1.0) -> Side:
    return Side(name, Echo(name, 0, 0), None, share, "module")


def test_sides_take_turns_after_a_warm_up_and_medians_remain() -> None:
    met: list[tuple[str, int]] = []
    values = {"ours": [99.0, 30.0, 10.0, 20.0], "theirs": [99.0, 3.0, 1.0, 2.0]}

    def measure(which: Side, count: int) -> Measured:
        met.append((which.name, count))
        return Measured(values[which.name].pop(0), 1.5)

    (row,) = compare([shape(measure)], side("ours"), side("theirs", 0.5), rounds=3)
    assert met[:2] == [("ours", 10), ("theirs", 5)]
    assert met[2:] == [
        *[("theirs", 50), ("ours", 100)],
        *[("ours", 100), ("theirs", 50)],
        ("theirs", 50),
        ("ours", 100),
    ]
    assert (row.left, row.right) == (Measured(20.0, 1.5), Measured(2.0, 1.5))
    assert row.ratio == 10.0


def test_the_ratio_is_that_of_rounds_and_not_of_medians() -> None:
    values = {"ours": [0.0, 100.0, 10.0, 30.0], "theirs": [0.0, 10.0, 1.0, 15.0]}
    measure = lambda which, _: Measured(values[which.name].pop(0))  # noqa: E731 - a name for it says nothing more
    (row,) = compare([shape(measure)], side("ours"), side("theirs"), rounds=3)
    assert (row.left.value, row.right.value, row.ratio) == (30.0, 10.0, 10.0)


def test_no_run_is_smaller_than_its_floor() -> None:
    assert items_of(shape(floor=64), side("theirs", 0.1), 0.1) == 64
    assert items_of(shape(), side("ours"), 0.2) == 20


def test_rounds_come_to_the_median_of_values_and_the_mean_of_ordinary_cpu() -> None:
    runs = [Measured(1.0, 900.0), Measured(9.0, 1.0), Measured(2.0, 11.0), Measured(3.0, 13.0)]
    assert together(runs) == Measured(2.5, 12.0)
    assert together(runs[:1]) == Measured(1.0, 900.0)
    assert together([Measured(1.0), Measured(3.0), Measured(2.0)]) == Measured(2.0)


def test_the_table_has_a_line_for_each_shape() -> None:
    rows = [Row(shape(aim="≥ 25"), Measured(480_000, 2.0), Measured(16_000, 80.0), 30.5)]
    rows.append(Row(shape(unit="MB", cpu_unit=""), Measured(4.0), Measured(8.0), 0.5))
    head, rule, first, second = table(rows, "ours", "grpc.aio")
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert "| 480,000 | 16,000 | × 30.5 | ≥ 25 | µs/call | 2.00 | 80.0 | × 0.03 |" in first
    assert "| 4.00 | 8.00 | × 0.50 |" in second


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (99.94, "99.9"), (1.234, "1.23"), (-0.5, "-0.50")])
def test_figures_have_about_three_digits(value: float, text: str) -> None:
    assert written(value) == text
