import json
from pathlib import Path
from typing import Any

import mmh3
import pytest

import tests
from gateway.routing.assignment import bucket, first_hash
from gateway.routing.snapshot import BUCKETS

VECTORS = json.loads((Path(tests.__file__).parent / "vectors" / "assignment.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['salt']}:{vector['unit']}")
def test_the_vectors(vector: dict[str, Any]) -> None:
    assert bucket(vector["salt"], vector["unit"]) == vector["bucket"]
    assert mmh3.hash(f"{vector['salt']}:{vector['unit']}".encode(), 0, signed=False) == vector["hash"]
    assert vector["hash"] * BUCKETS >> 32 == vector["bucket"]


def test_a_bucket_begins_where_the_one_before_it_ends() -> None:
    firsts = [first_hash(number) for number in range(BUCKETS + 1)]
    assert (firsts[0], firsts[-1]) == (0, 1 << 32)
    for number, first in enumerate(firsts[1:], 1):
        assert (first - 1) * BUCKETS >> 32 == number - 1
        assert first * BUCKETS >> 32 == number
