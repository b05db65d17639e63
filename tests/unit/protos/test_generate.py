import subprocess
import sys
from pathlib import Path

import pytest

from protos import generate, health_pb2, inference_pb2

HERE = Path(generate.__file__).parent


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("generated") / "protos"
    target.mkdir()
    # A process of its own: protoc prints to the real stderr, and keeps state.
    command = [sys.executable, "-W", "ignore", "-m", "protos.generate", str(target)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("ending", ["_pb2.py", "_pb2.pyi", "_pb2_grpc.py"])
@pytest.mark.parametrize("name", generate.SOURCES)
def test_the_modules_are_what_the_protos_say(fresh: Path, name: str, ending: str) -> None:
    made, kept = fresh / f"{name}{ending}", HERE / f"{name}{ending}"
    assert made.read_text() == kept.read_text(), f"protos/{kept.name} is out of date: run `make protos`"


def test_every_proto_is_generated() -> None:
    assert sorted(path.stem for path in HERE.glob("*.proto")) == sorted(generate.SOURCES)
    names = {f"{name}{ending}" for name in generate.SOURCES for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")}
    assert {path.name for path in HERE.glob("*_pb2*")} == names


def test_other_libraries_of_the_protocol_may_be_loaded_beside_ours() -> None:
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.ModelInferRequest(model_name="m").SerializeToString()
    assert inference_pb2.ModelInferRequest.FromString(theirs).model_name == "m"
    assert health_pb2.DESCRIPTOR.pool is not service_pb2.DESCRIPTOR.pool
