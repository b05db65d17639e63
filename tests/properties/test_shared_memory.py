"""Tensors that lie in shared memory are answered as those that travel: random models, shapes, batches and sizes."""

import tempfile
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.slots import LAYOUT
from gateway.routing.snapshot import Tensor
from protos import inference_pb2 as pb
from tests import frames, models
from tests.unit.gateway.dataplane.fakes import LaneBench
from workers import slots as theirs
from workers.service import Service, frame_bytes
from workers.session import load
from workers.warmup import warm_up

DATATYPES = ["BOOL", "UINT8", "INT16", "FP32", "INT64", "FP64", "BYTES"]
THRESHOLD_BYTES = 64


@cache
def service(datatype: str) -> Service:
    """Y = X."""
    with tempfile.TemporaryDirectory() as folder:
        model = load(models.save(Path(folder), "m", 1, models.identity(datatype, (-1, -1))), 1)
    warm = warm_up(model, batching=True, max_batch_size=4)
    assert warm.batched
    return Service(model, warm)


def answers(datatype: str, requests: list[bytes], *, shared: bool) -> list[bytes]:
    """What the callers of one batch get, by a real worker's service."""
    tensors = (Tensor("X", datatype, (-1, -1)),)
    bench = LaneBench(inputs=tensors, outputs=(Tensor("Y", datatype, (-1, -1)),), workers=0)
    bench.shared = shared
    worker = bench.add_worker()
    mine = worker.shared
    if mine is not None:
        mine.threshold_bytes = THRESHOLD_BYTES
    other = theirs.Slots(mine.fd, LAYOUT, THRESHOLD_BYTES) if mine is not None else None
    calls = [bench.send(request) for request in requests]
    for _ in requests:
        bench.turn()
        data, at = bytes(worker.transport.written), 0
        worker.transport.written.clear()
        while at < len(data):
            stop = at + frame_bytes(data, at)
            worker.channel.data_received(b"".join(service(datatype).answer(data, at, stop, other)))
            at = stop
    assert mine is None or len(mine.free) == LAYOUT.slots
    worker.channel.connection_lost(None)
    return [call.body if call.code == 0 else call.text.encode() for call in calls]


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    datatype = draw(st.sampled_from(DATATYPES))
    columns = draw(st.integers(1, 40))
    requests = []
    for number in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(0, 5)), columns)
        request = pb.ModelInferRequest(model_name="m", id=draw(st.sampled_from(["", str(number)])))
        request.inputs.add(name="X", datatype=datatype, shape=shape)
        request.raw_input_contents.append(content(draw, datatype, shape))
        requests.append(request.SerializeToString())
    return datatype, requests


def content(draw: st.DrawFn, datatype: str, shape: tuple[int, int]) -> bytes:
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    if datatype == "BYTES":
        words = [str(number) * (number % 7) for number in random.integers(0, 99, prod(shape))]
        return frames.to_bytes(np.array(words, dtype=object))
    dtype = frames.from_bytes(datatype, [0], b"").dtype
    return frames.to_bytes(random.integers(0, 2, shape).astype(dtype))


@settings(max_examples=150, deadline=None)
@given(batches())
def test_shared_or_not_the_answers_are_the_same(case: tuple[str, list[bytes]]) -> None:
    datatype, requests = case
    assert answers(datatype, requests, shared=True) == answers(datatype, requests, shared=False)
