"""Tests of `workers.status`."""

import json
import os

import pytest

from workers.status import Status
from workers.tensors import Tensor


def test_status_lines_are_json() -> None:
    read_fd, write_fd = os.pipe()
    status = Status(write_fd)
    status.loading()
    facts = {"batched": True, "load_ms": 1.5, "warmup_ms": 0.5, "note": ""}
    status.ready(inputs=[Tensor("X", "FP32", (-1, 3))], outputs=[Tensor("Y", "BYTES", ())], facts=facts)
    status.failed("two\nlines")
    lines = [json.loads(line) for line in os.read(read_fd, 65536).splitlines()]
    assert lines[0] == {"state": "loading"}
    assert lines[1] == {
        "state": "ready",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "Y", "datatype": "BYTES", "shape": []}],
        **facts,
    }
    assert lines[2] == {"state": "failed", "error": "two lines"}
    os.close(read_fd)
    status.loading()  # the reader is gone: nothing happens
    os.close(write_fd)


def test_a_descriptor_that_is_not_open_is_an_error() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Status(write_fd)
