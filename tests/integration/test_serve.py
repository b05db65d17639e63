"""`cutover serve` with everything real: control, proxies, workers, and what happens to them."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from gateway.controlplane.pools import GONE
from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.serving import CUTOVER, Gateway, serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

LIMIT_S = 30.0
ROW = np.ones((1, 3), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A models directory with one good model."""
    models.save(tmp_path / "models", "echo", 1, models.identity())
    return tmp_path


@contextmanager
def client(port: int) -> Iterator[Callable[[], str]]:
    """Sends a request over one connection; the function returns the version that answered."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        request = pb.ModelInferRequest(model_name="echo", raw_input_contents=[ROW.tobytes()])
        request.inputs.add(name="X", datatype="FP32", shape=[1, 3])

        def infer() -> str:
            reply = stub.ModelInfer(request, timeout=LIMIT_S)
            assert reply.raw_output_contents == [ROW.tobytes()]
            return str(reply.model_version)

        yield infer


def until(holds: Callable[[], object]) -> None:
    """Waits for what other processes bring about."""
    give_up_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def states(gateway: Gateway) -> dict[tuple[str, int], str]:
    """The state of every version, as `cutover models` has it."""
    listed = json.loads(gateway.cutover("models", "-o", "json").stdout)
    return {(row["model"], int(row["version"])): row["state"].lower() for row in listed["versions"]}


def test_a_model_is_served_and_everything_is_gone_after_the_stop(folder: Path) -> None:
    with serving(folder / "models", folder / "state", "--proxies", "2") as gateway:
        with client(gateway.grpc) as infer:
            assert infer() == "1"
        children = gateway.proxies() + gateway.workers("echo")
        assert len(children) == 3
        (run,) = json.loads((folder / "state" / "processes.json").read_text())[1]
        assert gateway.stop() == 0
    assert not any(map(runs, children))
    assert not Path(run["run_dir"]).exists()
    assert "cutover is ready" in gateway.log_tail()


def test_a_killed_worker_is_replaced_and_nobody_notices(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as gateway, client(gateway.grpc) as infer:
        (worker,) = gateway.workers("echo")
        infer()
        os.kill(worker, signal.SIGKILL)
        assert infer() == "1"
        assert worker not in gateway.workers("echo")
        until(lambda: gateway.metric("cutover_worker_restarts_total", model="echo") == 1)


def test_a_killed_proxy_is_replaced(folder: Path) -> None:
    with serving(folder / "models", folder / "state", "--proxies", "2") as gateway:
        killed = gateway.proxies()[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(gateway.proxies()) == 2 and killed not in gateway.proxies())
        with client(gateway.grpc) as infer:
            assert infer() == "1"


def test_clients_are_served_without_a_control_process_and_the_next_one_takes_over(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as first:
        left = first.proxies() + first.workers("echo")
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        with client(first.grpc) as infer:
            assert infer() == "1"
            assert all(map(runs, left))
            with serving(folder / "models", folder / "state", "--grpc-port", str(first.grpc)) as second:
                until(lambda: not any(map(runs, left)))
                assert infer() == "1"
                assert second.grpc == first.grpc
                (run,) = json.loads((folder / "state" / "processes.json").read_text())[1]
                assert {int(pid) for pid in run["processes"]} == {*second.proxies(), *second.workers("echo")}


def test_new_versions_are_found_but_not_served_and_new_models_are(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as gateway, client(gateway.grpc) as infer:
        models.save(folder / "models", "echo", 2, models.identity())
        models.save(folder / "models", "late", 1, models.identity())
        until(lambda: states(gateway).get(("late", 1)) == "ready")
        assert states(gateway) == {("echo", 1): "ready", ("echo", 2): "found", ("late", 1): "ready"}
        assert infer() == "1"


def test_bad_models_are_reported_and_keep_nobody_from_being_served(folder: Path) -> None:
    (folder / "models" / "junk" / "1").mkdir(parents=True)
    (folder / "models" / "junk" / "1" / "model.onnx").write_text("not a model")
    (folder / "models" / "empty" / "1").mkdir(parents=True)
    (folder / "models" / "stray.txt").write_text("")
    file = folder / "cutover.toml"
    file.write_text("[models.ehco]\ninstances = 2\n[models.echo]\ninstances = 1\n")
    with serving(folder / "models", folder / "state", "--config", str(file)) as gateway, client(gateway.grpc) as infer:
        assert infer() == "1"
        assert states(gateway) == {("echo", 1): "ready", ("junk", 1): "failed"}
        problems = json.loads(gateway.cutover("models", "-o", "json").stdout)["problems"]
        assert [problem.split(":")[0] for problem in problems] == ["empty/1", "stray.txt"]
        said = gateway.log_tail()
        assert "problem in the models directory" in said
        assert "model failed" in said
        assert "setting=models.ehco" in said
        assert "setting=models.echo" not in said


@pytest.mark.slow
def test_a_released_version_that_is_gone_after_a_restart_is_told_with_the_remedy(folder: Path) -> None:
    with serving(folder / "models", folder / "state"):
        pass
    shutil.rmtree(folder / "models" / "echo")
    models.save(folder / "models", "other", 1, models.identity())
    with serving(folder / "models", folder / "state") as gateway:
        assert states(gateway) == {("echo", 1): "missing", ("other", 1): "ready"}
        assert GONE in gateway.cutover("models", "echo").stdout
        (line,) = [line for line in gateway.log_tail().splitlines() if "model failed" in line]
        assert GONE in line


def test_a_release_survives_the_death_of_everything(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as gateway:
        gateway.kill()
    models.save(folder / "models", "echo", 2, models.identity())
    with serving(folder / "models", folder / "state") as gateway, client(gateway.grpc) as infer:
        assert infer() == "1"  # still the release it had


def interrupted(gateway: Gateway) -> str:
    """The log of a gateway that gets one more SIGINT, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(gateway.pid, signal.SIGINT)
    return gateway.log_tail()


def test_the_first_signal_waits_for_answers_and_the_second_does_not(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as gateway, ThreadPoolExecutor(1) as pool:
        (worker,) = gateway.workers("echo")
        os.kill(worker, signal.SIGSTOP)
        with client(gateway.grpc) as infer:
            waiting = pool.submit(infer)
            until(lambda: gateway.metric("cutover_in_flight_requests") == 1)
            os.kill(gateway.pid, signal.SIGINT)
            until(lambda: "stopping" in gateway.log_tail())
            assert runs(worker)
            os.kill(gateway.pid, signal.SIGINT)  # at once behind the first: the same word
            os.kill(gateway.pid, signal.SIGTERM)
            until(lambda: "stopping at once" in interrupted(gateway))
            assert gateway.process.wait(timeout=LIMIT_S) == 0
            assert not runs(worker)
            with pytest.raises(grpc.RpcError):
                waiting.result()


def test_requests_in_flight_are_answered_before_the_end(folder: Path) -> None:
    with serving(folder / "models", folder / "state") as gateway, ThreadPoolExecutor(1) as pool:
        (worker,) = gateway.workers("echo")
        os.kill(worker, signal.SIGSTOP)
        with client(gateway.grpc) as infer:
            waiting = pool.submit(infer)
            until(lambda: gateway.metric("cutover_in_flight_requests") == 1)
            os.kill(gateway.pid, signal.SIGTERM)
            until(lambda: "stopping" in gateway.log_tail())
            os.kill(worker, signal.SIGCONT)
            assert waiting.result() == "1"
            assert gateway.process.wait(timeout=LIMIT_S) == 0


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--models", "{tmp}/nowhere"], ["does not exist; create it or give another with --models"]),
        (["--models", "{tmp}/models", "--state", "{tmp}/models/echo/1/model.onnx"], ["choose another with --state"]),
        (["--config", "{tmp}/bad.toml"], ["server.grpc_prot: unknown setting", "limits.max_message: must be a number"]),
    ],
)
def test_a_start_that_cannot_be_is_one_line_each_and_exit_code_2(
    folder: Path, arguments: list[str], lines: list[str]
) -> None:
    (folder / "bad.toml").write_text("[server]\ngrpc_prot = 1\n[limits]\nmax_message = 4\n")
    command = [str(CUTOVER), "serve", *(argument.replace("{tmp}", str(folder)) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, cwd=folder, check=False)
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()
    assert len(said) == len(lines)
    assert all(any(line in text for text in said) for line in lines)
