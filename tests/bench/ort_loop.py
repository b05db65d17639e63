"""The limit: ONNX Runtime called in a loop in one process, no network.

usage: python -m tests.bench.ort_loop MODEL.onnx BATCH     prints rows per second
"""

import os
import sys
import time

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import numpy as np
import onnxruntime as ort

WARM_UP = 500
SECONDS = 3.0


def main() -> None:
    """Runs the batch again and again for a few seconds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    batch = int(sys.argv[2])
    rows = np.random.default_rng(0).random((batch, 30), dtype=np.float32)
    for _ in range(WARM_UP):
        session.run(None, {"X": rows})
    runs, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        for _ in range(100):
            session.run(None, {"X": rows})
        runs += 100
    sys.stdout.write(f"{runs * batch / spent:.0f}\n")


if __name__ == "__main__":
    main()
