from tests.bench.balance import Balance, balance, measure


def test_a_fair_spread() -> None:
    assert balance([[8, 8]] * 20) == Balance(usual=1.0, worst_of_20=1.0, idle=0.0)


def test_the_busiest_and_those_with_nothing() -> None:
    assert balance([[2, 2, 2, 2]] * 10 + [[4, 4, 0, 0]] * 9 + [[8, 0, 0, 0]]) == Balance(1.5, 4.0, 0.5)


def test_every_connection_is_counted_once() -> None:
    assert [sum(counts) for counts in measure(proxies=3, connections=5, rounds=4)] == [5] * 4
