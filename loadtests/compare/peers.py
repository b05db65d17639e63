"""How each peer is started: a context in which it listens on a port, with the processes that it consists of."""

import json
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from loadtests.bench import processes
from loadtests.bench.errors import BenchError
from loadtests.bench.workload import INPUT, Workload
from loadtests.compare import venvs
from loadtests.demo.gateway import CommandFailed, Gateway, serving

RUNNERS: Final = Path(__file__).parent / "runners"
START_S: Final = 120.0
TRITON, MLSERVER, KSERVE, CUTOVER = "triton", "mlserver", "kserve", "cutover"


@dataclass(frozen=True)
class Site:
    """Where a peer may write, and where its environment is."""

    folder: Path
    root: Path

    def log(self, name: str) -> Path:
        """Where it talks."""
        return self.folder / f"{name}.log"


@dataclass(frozen=True)
class Running:
    """A peer that listens. `pid` is the process that started all others of it."""

    name: str
    version: str
    port: int
    pid: int

    def processes(self) -> list[int]:
        """All its processes."""
        return processes.tree(self.pid)


def running(served: Gateway) -> Running:
    """The gateway as a peer among others."""
    return Running(CUTOVER, version(CUTOVER), int(served.target.rpartition(":")[2]), served.process.pid)


Start = Callable[[Site, Workload], AbstractContextManager[Running]]


@contextmanager
def cutover(site: Site, workload: Workload) -> Iterator[Running]:
    """One proxy, one worker; everything else as it comes."""
    with gateway(site, workload) as served:
        yield running(served)


@contextmanager
def gateway(site: Site, workload: Workload) -> Iterator[Gateway]:
    """`cutover serve` with one proxy. Raises BenchError, also for a command of the block that fails."""
    state = Path(tempfile.mkdtemp(prefix="state-", dir=site.folder)) / "state"
    try:
        with serving(workload.models, state, "--proxies", "1") as served:
            yield served
    except CommandFailed as error:
        raise BenchError(str(error)) from error


@contextmanager
def triton(site: Site, workload: Workload) -> Iterator[Running]:
    """Triton as nvidia-pytriton ships it: Python backend, dynamic batching without a delay, one instance."""
    made = venvs.environment(TRITON, ["nvidia-pytriton", "onnxruntime"], site.root)
    packages = _packages(made)
    home = packages / "pytriton" / "tritonserver"
    backend = home / "backends" / "python"
    python = "{}.{}".format(*sys.version_info[:2])
    stub = home / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        raise BenchError(f"nvidia-pytriton brings no stub for Python {python}")
    shutil.copy(stub, backend / stub.name)
    models = _triton_models(site.folder / f"triton-{workload.name}", workload)
    http, grpc, metrics = processes.free_ports(3)
    command = [str(home / "bin" / "tritonserver"), "--model-repository", str(models)]
    command += ["--backend-directory", str(home / "backends"), "--allow-metrics", "false"]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    command += ["--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1"]
    environment = {
        "PATH": f"{made / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
    }
    with _started(TRITON, site, workload, command, environment, grpc) as pid:
        yield Running(TRITON, venvs.version(made, "nvidia-pytriton"), grpc, pid)


@contextmanager
def mlserver(site: Site, workload: Workload) -> Iterator[Running]:
    """MLServer in one process, as its documentation advises for a single model."""
    made = venvs.environment(MLSERVER, ["mlserver", "onnxruntime"], site.root)
    http, grpc, metrics = processes.free_ports(3)
    settings = {
        "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
        "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    folder = site.folder / f"mlserver-{workload.name}"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": workload.name, "implementation": "mlserver_runtime.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(made / "bin" / "mlserver"), "start", str(folder)]
    with _started(MLSERVER, site, workload, command, {"PYTHONPATH": str(RUNNERS)}, grpc) as pid:
        yield Running(MLSERVER, venvs.version(made, MLSERVER), grpc, pid)


@contextmanager
def kserve(site: Site, workload: Workload) -> Iterator[Running]:
    """KServe's Python server, one worker."""
    made = venvs.environment(KSERVE, ["kserve", "onnxruntime"], site.root)
    http, grpc = processes.free_ports(2)
    command = [str(made / "bin" / "python"), str(RUNNERS / "kserve_server.py"), workload.name, str(http), str(grpc)]
    with _started(KSERVE, site, workload, command, {"PYTHONPATH": ""}, grpc) as pid:
        yield Running(KSERVE, venvs.version(made, KSERVE), grpc, pid)


STARTS: Final[dict[str, Start]] = {TRITON: triton, CUTOVER: cutover, KSERVE: kserve, MLSERVER: mlserver}
"""In the order in which they are measured: all are to meet what Triton can bear."""


@contextmanager
def _started(
    name: str, site: Site, workload: Workload, command: list[str], environment: dict[str, str], port: int
) -> Iterator[int]:
    """Runs the peer until the end of the block; gives its pid once it listens."""
    environment |= {"MODEL": str(workload.onnx), "ORT_DISABLE_TELEMETRY": "1"}
    log = site.log(f"{name}-{workload.name}")
    with processes.running(command, log, environment=environment, cwd=site.folder) as process:
        processes.wait_for_port(port, process, log, START_S)
        yield process.pid


def _packages(made: Path) -> Path:
    found = sorted((made / "lib").glob("python3*/site-packages"))
    if not found:
        raise BenchError(f"{made} has no packages")
    return found[0]


def _triton_models(folder: Path, workload: Workload) -> Path:
    """A model repository with the one model."""
    from loadtests.bench.truth import Truth

    place = folder / workload.name / "1"
    place.mkdir(parents=True)
    shutil.copy(RUNNERS / "triton_model.py", place / "model.py")
    types = {"int64": "TYPE_INT64", "float32": "TYPE_FP32"}
    outputs = [
        f'{{name: "{name}" data_type: {types[str(array.dtype)]} dims: {list(array.shape[1:]) or [1]}}}'
        for name, array in Truth(workload).outputs().items()
    ]
    (place.parent / "config.pbtxt").write_text(f"""name: "{workload.name}"
backend: "python"
max_batch_size: 64
input [{{name: "{INPUT}" data_type: TYPE_FP32 dims: {list(workload.row.shape[1:])}}}]
output [{", ".join(outputs)}]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
instance_group [{{count: 1 kind: KIND_CPU}}]
""")
    return folder
