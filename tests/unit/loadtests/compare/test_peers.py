"""What the peers are given to serve, and what becomes of one that does not start."""

import shutil
import sys
from pathlib import Path

import pytest

from loadtests.bench import workload
from loadtests.bench.errors import BenchError
from loadtests.bench.workload import Workload
from loadtests.compare import peers, venvs
from loadtests.compare.peers import STARTS, Site


@pytest.fixture
def model(tmp_path: Path) -> Workload:
    return workload.fixed_cost(tmp_path, rounds=1, size=4)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Every peer's environment is there, and its programs end at once."""
    root = tmp_path / "root"
    for name, package in (("triton", "nvidia-pytriton"), ("mlserver", "mlserver"), ("kserve", "kserve")):
        (root / name / "bin").mkdir(parents=True)
        (root / f"{name}.installed").write_text(venvs.contents([package, "onnxruntime"]))
        for program in ("python", "mlserver"):
            path = root / name / "bin" / program
            path.write_text('#!/bin/sh\necho "$0 $*: no luck"; env; echo "MODEL is $MODEL"; exit 3\n')
            path.chmod(0o755)
    home = root / "triton" / "lib" / "python3.1" / "site-packages" / "pytriton" / "tritonserver"
    stub = home / "python_backend_stubs" / "{}.{}".format(*sys.version_info[:2]) / "triton_python_backend_stub"
    for path in (stub, home / "bin" / "tritonserver"):
        path.parent.mkdir(parents=True)
        shutil.copy(root / "mlserver" / "bin" / "mlserver", path)
    (home / "backends" / "python").mkdir(parents=True)
    return Site(tmp_path, root)


@pytest.mark.parametrize("name", ["triton", "mlserver", "kserve"])
def test_a_peer_that_does_not_start_says_why(name: str, site: Site, model: Workload) -> None:
    with pytest.raises(BenchError, match=f"it ended with 3: MODEL is {model.onnx}"), STARTS[name](site, model):
        pass


def test_a_gateway_that_does_not_start_says_why(site: Site, model: Workload) -> None:
    (model.onnx.parent / "model.toml").write_text("nonsense")
    model.models.rename(site.folder / "elsewhere")
    with pytest.raises(BenchError, match="cutover serve ended"), STARTS["cutover"](site, model):
        pass


def test_triton_gets_a_model_of_the_same_shape(site: Site, model: Workload) -> None:
    with pytest.raises(BenchError), STARTS["triton"](site, model):
        pass
    folder = site.folder / "triton-fixed" / "fixed"
    text = (folder / "config.pbtxt").read_text()
    assert 'input [{name: "X" data_type: TYPE_FP32 dims: [30]}]' in text
    assert 'output [{name: "Y" data_type: TYPE_FP32 dims: [1]}]' in text
    assert (folder / "1" / "model.py").read_bytes() == (peers.RUNNERS / "triton_model.py").read_bytes()


def test_triton_without_a_stub_for_this_python(site: Site, model: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.compare.peers.sys.version_info", (9, 9))
    with pytest.raises(BenchError, match=r"no stub for Python 9\.9"), STARTS["triton"](site, model):
        pass
