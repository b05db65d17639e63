import json
from pathlib import Path
from typing import Any

import mmh3
import pytest

import tests
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import BUCKETS

VECTORS = json.loads((Path(tests.__file__).parent / "vectors" / "assignment.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['salt']}:{vector['unit']}")
def test_the_vectors(vector: dict[str, Any]) -> None:
    assert bucket(vector["salt"], vector["unit"]) == vector["bucket"]
    assert mmh3.hash(f"{vector['salt']}:{vector['unit']}".encode(), 0, signed=False) == vector["hash"]
    assert vector["hash"] * BUCKETS >> 32 == vector["bucket"]
