"""@grpc/grpc-js on Node's own HTTP/2: DATA and END_STREAM in frames of their own, other windows, other HPACK."""

import json
from pathlib import Path

from tests.conformance.conftest import Process
from tests.conformance.node import GRPC_JS, needs_node, run

SCRIPT = Path(__file__).with_name("grpc_js.cjs")

pytestmark = needs_node


def test_grpc_js(server: Process) -> None:
    assert json.loads(run(SCRIPT, GRPC_JS, str(server.port))) == {
        "echo": "hello",
        "large": True,
        "many": True,
        "trailers": {"user": "u1", "blob": [0, 255]},
        "unknown": 12,
        "failed": [8, "100 % Größe"],
        "deadline": 4,
        "cancelled": 1,
        "after": "still here",
    }
