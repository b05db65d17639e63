"""Prints what large tensors cost: images through the gateway, with and without shared memory, beside a plain loop.

usage: python -m tests.bench.tensors [--quick]

The model and the machine are the same for all, and they take turns, so that what else goes on strikes everybody.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import grpc
import numpy as np

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.bench import load
from tests.bench.load import BenchError
from tests.bench.machine import machine
from tests.serving import Gateway, ServingError, cpu_s, serving

MODEL = "images"
SHAPE = (1, 3, 224, 224)
IMAGE_BYTES = 4 * 3 * 224 * 224
QUICK = "--quick" in sys.argv
ROUNDS = 2 if QUICK else 7
REQUESTS = 200 if QUICK else 600
LOOP_S = 1.0 if QUICK else 3.0
CONNECTIONS, STREAMS = 2, 4


@dataclass
class Side:
    """One way to run the model, and what it reached in each round: images/s, and ms of CPU per image."""

    name: str
    rates: list[float] = field(default_factory=list)
    proxy_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)
    """Of the worker, or of the loop."""


def loop(path: str, batch: int) -> None:
    """In a process of its own: the model in a loop on one thread; prints images/s, and ms of CPU for each."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((batch, *SHAPE[1:]), dtype=np.float32)
    for _ in range(5):
        session.run(None, {"X": images})
    runs, start, start_cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - start) < LOOP_S:
        session.run(None, {"X": images})
        runs += 1
    sys.stdout.write(f"{runs * batch / spent} {(time.process_time() - start_cpu) / runs / batch * 1000}\n")


def run_loop(side: Side, path: Path, batch: int) -> None:
    """One round of `loop`."""
    command = [sys.executable, "-m", "tests.bench.tensors", *sys.argv[1:], "--loop", str(path), str(batch)]
    rate, cpu_ms = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.split()
    side.rates.append(float(rate))
    side.model_ms.append(float(cpu_ms))


def run_gateway(side: Side, gateway: Gateway, payload: Path, reply_bytes: int) -> None:
    """One round through a gateway."""
    proxies, workers = gateway.proxies(), gateway.workers()
    before = [sum(map(cpu_s, pids)) for pids in (proxies, workers)]
    found = load.run(
        gateway.grpc, payload, reply_bytes, requests=REQUESTS, connections=CONNECTIONS, streams=STREAMS, latencies=False
    )
    after = [sum(map(cpu_s, pids)) for pids in (proxies, workers)]
    side.rates.append(found.rate)
    side.proxy_ms.append((after[0] - before[0]) / REQUESTS * 1000)
    side.model_ms.append((after[1] - before[1]) / REQUESTS * 1000)


def write_payload(path: Path) -> pb.ModelInferRequest:
    """One gRPC-framed image for h2load."""
    image = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    request = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[image.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=SHAPE)
    body = request.SerializeToString()
    path.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    return request


def checked(gateway: Gateway, request: pb.ModelInferRequest) -> bytes:
    """One answer, serialized."""
    with grpc.insecure_channel(gateway.target) as channel:
        return bytes(GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30).SerializeToString())


def measure(folder: Path) -> list[Side]:
    """All rounds of all sides; the first is the loop that the others are compared with."""
    path = models.save(folder / "models", MODEL, 1, models.images())
    request = write_payload(folder / "payload")
    loops = {1: Side("ONNX Runtime in a loop, one image at a time"), 8: Side("ONNX Runtime in a loop, 8 at a time")}
    shared, sockets = Side("Cutover, shared memory"), Side('Cutover, shared_tensors_above = "0B"')
    with ExitStack() as stack:
        gateways = []
        for number, (side, above) in enumerate(((shared, "128KiB"), (sockets, "0B"))):
            config = folder / f"{number}.toml"
            config.write_text(f'[limits]\nshared_tensors_above = "{above}"\n')
            state = folder / f"state-{number}"
            gateway = stack.enter_context(serving(folder / "models", state, "--proxies", "1", "--config", str(config)))
            gateways.append((side, gateway))
        replies = [checked(gateway, request) for _, gateway in gateways]
        if len(set(replies)) != 1:
            raise BenchError("the gateways answer differently")
        for _ in range(ROUNDS):
            for batch, side in loops.items():
                run_loop(side, path, batch)
            for side, gateway in gateways:
                run_gateway(side, gateway, folder / "payload", len(replies[0]))
    return [*loops.values(), shared, sockets]


def table(sides: list[Side]) -> Iterator[str]:
    """The Markdown lines of the result: medians of the rounds, ratios of what ran side by side."""
    yield machine()
    yield ""
    yield f"FP32 {list(SHAPE)}, {IMAGE_BYTES:,} bytes; {CONNECTIONS} × {STREAMS} in flight, one proxy, one worker"
    yield ""
    yield "| what | images/s | MB/s | × loop | proxy ms CPU | worker or loop ms CPU |"
    yield "|---|---|---|---|---|---|"
    for side in sides:
        rate = median(side.rates)
        ratio = median(mine / its for mine, its in zip(side.rates, sides[0].rates, strict=True))
        cpu = [f"{median(values):.2f}" if values else "" for values in (side.proxy_ms, side.model_ms)]
        yield f"| {side.name} | {rate:,.0f} | {rate * IMAGE_BYTES / 1e6:,.0f} | {ratio:.2f} | {cpu[0]} | {cpu[1]} |"


def main() -> int:
    """Runs everything; exit code 1 with one line when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tensors", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short rounds: does everything work?")
    parser.add_argument("--loop", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        loop(arguments.loop[0], int(arguments.loop[1]))
        return 0
    try:
        load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
            sys.stdout.write("\n".join(table(measure(Path(folder)))) + "\n")
    except (BenchError, ServingError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
