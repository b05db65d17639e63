"""The tables and the aims say what was found, and not more."""

import dataclasses

import pytest

from loadtests.bench.openloop import Found
from loadtests.compare.rows import Large, Part, Results, Split, aims, quantiles, tables
from tests.unit.loadtests.compare.samples import found, row


@pytest.fixture
def results() -> Results:
    return Results(
        rows={
            "triton": row("triton", 5_000, 400, found(4_000)),
            "cutover": row("cutover", 50_000, 150, found(1_000)),
            "mlserver": row("mlserver", 500, 2_000, found(refused=40)),
        },
        common_rate=3_500,
        split=Split(Part(60.0, 5_400), Part(50.0, 6_000), Part(15.0, 50_000)),
        large={
            "convnet": Large(200.0, {"triton": 100.0, "cutover": 190.0}),
            "convnet-light": Large(400.0, {"cutover": 380.0, "triton": 200.0}),
        },
        problems={"kserve": "it could not be installed"},
    )


def test_every_aim_is_computed(results: Results) -> None:
    found = aims(results)
    assert [aim.value for aim in found] == pytest.approx(
        [10, 100, 0.25, 0.375, 0.25, 0.3, 0.95, 1.9, 0.95, 1.9], rel=0.01
    )
    assert {aim.verdict for aim in found} == {"reached"}


def test_what_was_not_measured_reaches_nothing() -> None:
    assert {aim.verdict for aim in aims(Results())} == {"not measured"}


@pytest.mark.parametrize("common", [None, found(refused=1), found(delay_us=900.0)])
def test_a_run_with_refusals_or_a_late_generator_is_no_yardstick(results: Results, common: Found | None) -> None:
    results.rows["triton"] = row("triton", 5_000, 400, common)
    assert aims(results)[2].verdict == "not measured"


def test_requests_that_cutover_refused_are_no_reason_to_say_nothing(results: Results) -> None:
    results.rows["cutover"] = row("cutover", 50_000, 150, found(refused=1))
    assert aims(results)[2].verdict == "not reached"


@pytest.mark.parametrize(("delay_us", "verdict"), [(10.0, "not reached"), (900.0, "not measured")])
def test_what_a_late_generator_did_not_send_says_nothing(results: Results, delay_us: float, verdict: str) -> None:
    common = dataclasses.replace(found(delay_us=delay_us), unsent=1)
    results.rows["cutover"] = row("cutover", 50_000, 150, common)
    assert aims(results)[2].verdict == verdict


@pytest.mark.parametrize(("p99_us", "verdict"), [(1_000, "reached"), (3_000, "not measured")])
def test_a_late_generator_can_only_make_latencies_longer(results: Results, p99_us: int, verdict: str) -> None:
    results.rows["cutover"] = row("cutover", 50_000, 150, found(p99_us, delay_us=p99_us * 0.9))
    assert aims(results)[2].verdict == verdict


def test_the_tables_have_all_peers(results: Results) -> None:
    text = "\n".join(tables(results))
    assert "| cutover | 1.0 | 50,000 | 10.00 | 150 µs | 12.3 | 150 |" in text
    assert "| cutover | 100 µs / 1.00 ms | 200 µs / 2.00 ms | over 25,000/s | 100 µs / 1.00 ms | 20.0 |" in text
    assert "at 3,500/s, 70% of Triton's" in text
    assert "28.57% not OK" in text
    assert "as it comes: a connection for each request | 5,400 | 60.0 |" in text
    assert "told to keep its connections | 6,000 | 50.0 |" in text
    assert "| cutover | 190.0 | × 0.95 | 380.0 | × 0.95 |" in text
    assert "kserve: not measured: it could not be installed" in text


def test_without_triton_there_is_no_common_rate() -> None:
    text = "\n".join(tables(Results(rows={"cutover": row("cutover", 50_000)})))
    assert "| cutover | 1.0 | 50,000 |  | 100 µs |" in text
    assert "of Triton's" not in text


def test_nothing_measured_makes_no_table() -> None:
    assert list(tables(Results())) == []


def test_a_late_generator_is_said() -> None:
    assert quantiles(found(delay_us=900.0)).endswith(", generator late")
