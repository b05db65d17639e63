"""What is read from the open-loop generator's report."""

from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import openloop
from loadtests.bench.errors import BenchError
from loadtests.bench.openloop import Found
from loadtests.openloop.tally import Tally
from tests.unit.loadtests.target import Serve


def told(latencies_us: list[int], refused: int = 0, unsent: int = 0, delay_us: int = 0) -> dict[str, Any]:
    tally = Tally()
    tally.intended = len(latencies_us) + refused + unsent
    tally.unsent = unsent
    for latency_us in latencies_us:
        tally.answered("OK", latency_us, 0)
        tally.delays.add(delay_us)
    for _ in range(refused):
        tally.answered("RESOURCE_EXHAUSTED", 5, 0)
    return tally.told(2.0)


def test_a_stage_is_read() -> None:
    found = Found.of(told([100, 200, 300, 50_000], refused=3, unsent=1))
    assert (found.intended, found.ok, found.unsent, found.unanswered) == (8, 4, 1, 0)
    assert found.offered_per_s == 4.0
    assert found.within(1_000) == 3
    assert found.quantile_us(0.5) == pytest.approx(200, rel=0.01)
    assert not found.spoiled


@pytest.mark.parametrize(("delay_us", "spoiled"), [(400, False), (600, True)])
def test_a_generator_that_was_late_spoils_its_run(delay_us: int, spoiled: bool) -> None:
    assert Found.of(told([1000] * 10, delay_us=delay_us)).spoiled is spoiled


def test_without_an_answer_nothing_can_be_spoiled() -> None:
    assert not Found.of(told([], refused=2)).spoiled


def test_a_run_against_a_server(serve: Serve, tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(b"\0\0\0\0\0")
    port = int(serve().rpartition(":")[2])
    found = openloop.steady(port, payload, 3, 100, 0.3, "--metadata", "x-user-id=a", "--arrivals", "constant")
    assert (found.intended, found.ok) == (30, 30)


def test_what_goes_wrong_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^openloop: cannot read"):
        openloop.run(1, tmp_path / "none", 0, [(1, 1)])


def test_what_never_came_ranks_behind() -> None:
    found = Found.of(told([100] * 98))
    assert found.quantile_us(0.99, 0) == 100
    assert found.quantile_us(0.99, 2) is None


@pytest.mark.parametrize(
    ("data_bytes", "unanswered", "lost", "good"),
    [
        (250, 0, 0, True), (249, 0, 0, False), (251, 0, 0, False), (275, 1, 0, True), (260, 0, 1, True),
        (249, 1, 0, False), (276, 1, 0, False),
    ],
)  # fmt: skip
def test_answers_of_another_size_are_no_answers(data_bytes: int, unanswered: int, lost: int, good: bool) -> None:
    """Ten OK answers of 20 bytes and their prefixes, in two stages."""
    stages = [
        {"answers": {"OK": 4, "RESOURCE_EXHAUSTED": 3}, "unanswered": 0},
        {"answers": {"OK": 6, "UNAVAILABLE": lost}, "unanswered": unanswered},
    ]
    report = {"stages": stages, "generator": {"data_bytes": data_bytes}}
    if good:
        openloop._check_sizes(report, 20)
    else:
        with pytest.raises(BenchError, match=r"data bytes for 10 OK answers of 20 \+ 5"):
            openloop._check_sizes(report, 20)
