"""A real gateway for the bench: models in a temporary folder, `cutover serve`, and its processes' CPU time."""

import json
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from protos import inference_pb2 as pb
from tests.bench.load import BenchError
from tests.bench.processes import children, cpu_s

MODEL = "mlp"
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    pid: int
    grpc: int
    http: int
    admin: int

    def proxies(self) -> list[int]:
        """Process ids of the proxies."""
        return children(self.pid, "gateway.dataplane")

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return children(self.pid, "workers")

    def cpu_s(self) -> tuple[float, float, float]:
        """CPU time so far: proxies, workers, control."""
        return sum(map(cpu_s, self.proxies())), sum(map(cpu_s, self.workers())), cpu_s(self.pid)

    def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric, summed by their `code`, `result` or no label."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    label = sample.labels.get("code") or sample.labels.get("result") or ""
                    found[label] = found.get(label, 0.0) + sample.value
        return found

    def settled(self, name: str, label: str, at_least: float) -> dict[str, float]:
        """The metric once its label has reached a value: proxies report once a second."""
        until = time.monotonic() + 10
        while (found := self.metric(name)).get(label, 0.0) < at_least and time.monotonic() < until:
            time.sleep(0.2)
        return found

    def cutover(self, *arguments: str) -> None:
        """Runs one `cutover` command against this gateway."""
        command = [str(Path(sys.executable).with_name("cutover")), *arguments, "--admin", f"127.0.0.1:{self.admin}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def running(folder: Path, *, proxies: int) -> Iterator[Gateway]:
    """Serves folder/models until the end of the block."""
    state = folder / f"state-{proxies}-{time.monotonic_ns()}"
    command = [str(Path(sys.executable).with_name("cutover")), "serve", "--models", str(folder / "models")]
    command += ["--state", str(state), "--proxies", str(proxies)]
    command += ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield _wait_ready(process, state / "ready.json", folder / "serve.log")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> Gateway:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BenchError(f"cutover serve ended with {process.returncode}: {log.read_text()[-500:]}")
        if ready.exists():
            ports = json.loads(ready.read_text())
            return Gateway(process.pid, ports["grpc"], ports["http"], ports["admin"])
        time.sleep(0.05)
    raise BenchError(f"cutover serve is not ready after {START_LIMIT_S:.0f} s: {log.read_text()[-500:]}")


def make_models(folder: Path) -> Path:
    """Two versions of a 30-feature classifier (X FP32 [n,30] -> label INT64 [n], probabilities FP32 [n,2])."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    rows = rows.astype("float32")
    for version in (1, 2):
        model = make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=400, random_state=version))
        model.fit(rows, labels)
        path = folder / "models" / MODEL / str(version) / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(to_onnx(model, rows[:1], options={"zipmap": False}, target_opset=18).SerializeToString())
    return folder / "models" / MODEL / "1" / "model.onnx"


def write_payload(path: Path) -> pb.ModelInferRequest:
    """One gRPC-framed request (a real row) for h2load."""
    from sklearn.datasets import load_breast_cancer

    row = load_breast_cancer().data[0].astype("float32")
    request = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[row.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 30])
    body = request.SerializeToString()
    path.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    return request
