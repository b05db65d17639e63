from math import inf

import pytest

from loadtests.bench.aims import Aim, at_least, at_most, ratio, table


@pytest.mark.parametrize(
    ("aim", "verdict"),
    [
        (at_least("a", 8.0, 8), "reached"),
        (at_least("a", 7.9, 8), "not reached"),
        (at_most("a", 0.5, 0.5), "reached"),
        (at_most("a", 0.51, 0.5), "not reached"),
        (at_least("a", None, 8), "not measured"),
        (at_most("a", None, 8), "not measured"),
        (at_most("a", inf, 8), "not reached"),
    ],
)
def test_an_aim_is_reached_or_not(aim: Aim, verdict: str) -> None:
    assert aim.verdict == verdict


def test_what_was_not_measured_has_no_ratio() -> None:
    assert ratio(6.0, 2.0) == 3.0
    assert ratio(None, 2.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0.0) is None


def test_the_table_has_a_row_for_each() -> None:
    lines = list(table([at_least("speed", 1234.5, 8), at_most("p99", 12.34, 100, "ms"), at_most("memory", None, 1.1)]))
    lines += list(table([at_most("until it is over", inf, 2, "s")]))[2:]
    assert lines[2:] == [
        "| speed | ≥ × 8 | × 1,234 | reached |",
        "| p99 | ≤ 100 ms | 12.3 ms | reached |",
        "| memory | ≤ × 1.1 |  | not measured |",
        "| until it is over | ≤ 2 s | never | not reached |",
    ]
