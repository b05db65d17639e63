"""What h2load prints is read, and doubted."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import h2load
from loadtests.bench.errors import BenchError
from loadtests.bench.h2load import Load, Shape

PRINTED = """finished in {took}, 100.00 req/s, 1.00MB/s
requests: 10 total, 10 started, 10 done, {good} succeeded, 0 failed, 0 errored, 0 timeout
status codes: 10 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.00KB (1024) total, 100B (100) headers (space savings 90.00%), 250B ({data}) data
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An h2load that prints what it is told, and writes three latencies."""
    program = tmp_path / "h2load"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def say(took: str = "100.00ms", good: int = 10, data: int = 250, words: str = PRINTED) -> None:
        (tmp_path / "words").write_text(words.format(took=took, good=good, data=data))
        program.write_text(
            f"#!/bin/sh\nfor each; do case $each in --log-file=*) "
            f"printf '1\\t200\\t30\\n1\\t200\\t10\\n1\\t200\\t20\\n' > ${{each#--log-file=}};; esac; done\n"
            f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/words\n'
        )
        program.chmod(0o755)

    return say


def ask(shape: Shape) -> Load:
    return h2load.run(8001, Path("payload"), 20, shape)


def test_a_run_is_read(said: Any, tmp_path: Path) -> None:
    said()
    found = ask(Shape(10, connections=2, streams=4, rate=100))
    assert (found.rate, found.latencies_us) == (100.0, [10, 20, 30])
    asked = (tmp_path / "asked").read_text()
    assert "-n 10 -c 2 -m 4" in asked
    assert "--rps=50.0" in asked
    assert asked.endswith("http://127.0.0.1:8001/inference.GRPCInferenceService/ModelInfer\n")


def test_without_latencies_and_with_tls(said: Any, tmp_path: Path) -> None:
    said(took="2.00s")
    found = ask(Shape(10, connections=2, streams=4, tls=True, latencies=False))
    assert (found.rate, found.latencies_us) == (5.0, [])
    assert "https://127.0.0.1:8001" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ({"good": 9}, "only 9 of 10 requests succeeded"),
        ({"data": 225}, "225 data bytes for 10 answers of 20"),
        ({"words": "could not connect"}, "h2load printed something unexpected: could not connect"),
    ],
)
def test_what_is_not_an_answer_is_told(said: Any, output: dict[str, Any], problem: str) -> None:
    said(**output)
    with pytest.raises(BenchError, match=problem):
        ask(Shape(10, connections=2, streams=4))


def test_without_h2load_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BenchError, match="nghttp2-client"):
        h2load.require_h2load()


@given(st.lists(st.integers(0, 10**6), min_size=1), st.lists(st.integers(0, 10**6), min_size=1))
def test_runs_together_are_one_run(one: list[int], two: list[int]) -> None:
    both = Load.together([Load(len(each), 1.0, 0, sorted(each)) for each in (one, two)])
    assert both.latencies_us == sorted(one + two)
    assert both.rate == (len(one) + len(two)) / 2
    assert min(one + two) / 1000 <= both.quantile_ms(0.5) <= both.quantile_ms(1.0) == max(one + two) / 1000
