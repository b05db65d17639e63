"""The worker as a process: started, spoken to over its socket, signalled and killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import frames, models
from tests.integration.worker_process import PATIENCE_S, Client, Worker
from workers import wire

ROW = {"X": np.linspace(-1, 1, 30, dtype=np.float32).reshape(1, 30)}


def rows(count: int) -> dict[str, frames.Array]:
    return {"X": np.random.default_rng(count).normal(size=(count, 30)).astype(np.float32)}


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process is about to do."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise TimeoutError


def test_a_classifier_from_start_to_sigterm(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        ready = worker.ready()
        assert ready["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}]
        assert [output["name"] for output in ready["outputs"]] == ["label", "probabilities"]
        assert ready["batched"] is True
        assert ready["note"] == ""
        assert ready["load_ms"] >= 0
        assert ready["warmup_ms"] >= 0
        with worker.connect() as client:
            for count in (1, 7, 64, 1000):
                answer = client.ask(frames.run(count, rows(count)))
                assert (answer.kind, answer.batch) == (wire.RESULT, count)
                found = answer.tensors()
                assert found["label"].shape == (count,)
                compared = client.ask(frames.compare(count + 1, rows(count), found))
                assert (compared.batch, compared.comparison) == (count + 1, (count, count, 0, 0.0))
        assert worker.terminate() == 0
        assert not worker.path.exists()
        assert worker.stderr.read_text() == worker.stdout.read_text() == ""


def test_the_answers_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        with worker.connect() as client:
            many = rows(16)
            together = client.ask(frames.run(1, many)).tensors()
            for row in range(16):
                alone = client.ask(frames.run(row, {"X": many["X"][row : row + 1]})).tensors()
                for name, array in alone.items():
                    np.testing.assert_allclose(array[0], together[name][row], rtol=1e-5)


def test_texts_in_and_out(tmp_path: Path) -> None:
    with Worker(tmp_path, models.text_join()) as worker:
        assert worker.ready()["batched"]
        words = np.array(["a", "", "Ünïcødé-😊"], dtype=object)
        with worker.connect() as client:
            answer = client.ask(frames.run(1, {"A": words, "B": words[::-1]})).tensors()["Y"]
            assert [text.decode() for text in answer] == ["a/Ünïcødé-😊", "/", "Ünïcødé-😊/a"]
            refused = client.ask(frames.run(2, {"A": np.array([b"\xff"], dtype=object), "B": words[:1]}))
            assert (refused.kind, refused.flags) == (wire.ERROR, 3)
            assert client.ask(frames.run(3, {"A": words, "B": words})).kind == wire.RESULT


def test_a_model_that_mixes_rows_is_served_one_by_one(tmp_path: Path) -> None:
    with Worker(tmp_path, models.normalizes_batch()) as worker:
        ready = worker.ready()
        assert not ready["batched"]
        assert "depends on the other rows" in ready["note"]
        with worker.connect() as client:
            x = {"X": np.zeros((4, 3), np.float32)}
            answer = client.ask(frames.run(1, x, batched=False)).tensors(batched=False)["Y"]
            np.testing.assert_allclose(answer, np.full((4, 3), 0.25))


def test_batching_off(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier(), "--batching", "off") as worker:
        assert not worker.ready()["batched"]
        with worker.connect() as client:
            assert client.ask(frames.run(1, ROW, batched=False)).tensors(batched=False)["label"].shape == (1,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (models.classifier()[:100], "not an ONNX model, or truncated"),
        (models.zipmap(), "zipmap"),
        (Path("/nowhere/model.onnx"), "no such file"),
    ],
)
def test_a_model_that_cannot_be_served_says_so_and_ends(tmp_path: Path, content: bytes | Path, words: str) -> None:
    with Worker(tmp_path, content) as worker:
        error = worker.failed()
        assert words in error
        assert "model.onnx" in error
        assert "\n" not in error
        assert worker.stderr.read_text() == worker.stdout.read_text() == ""


def test_a_socket_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier(), "--socket", str(tmp_path / ("long" * 40))) as worker:
        assert "longlong: cannot listen: AF_UNIX path too long" in worker.failed()


def test_a_status_descriptor_that_is_not_open_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers", "--model", "m", "--socket", str(tmp_path / "s"), "--status-fd", "999"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stderr == "workers: --status-fd 999: Bad file descriptor; pass an open descriptor\n"


def test_bad_input_is_an_error_and_the_next_is_answered(tmp_path: Path) -> None:
    with Worker(tmp_path, models.crasher()) as worker:
        worker.ready()
        with worker.connect() as client:
            assert client.ask(frames.run(1, {"X": np.array([models.FAIL])})).flags == 13
            assert client.ask(frames.run(2, {"X": np.array([1.5])})).flags == 3
            assert client.ask(frames.run(3, {"Y": np.array([1])})).flags == 3
            assert client.ask(frames.run(4, {"X": np.array([1])})).kind == wire.RESULT
        assert worker.stderr.read_text() == ""


def test_a_request_for_too_much_memory_fails_alone(tmp_path: Path) -> None:
    with Worker(tmp_path, models.hungry(), "--max-memory", str(256 << 20)) as worker:
        worker.ready()
        with worker.connect() as client:
            for mib in (1 << 20, 300, 1 << 12, 1 << 40):
                failed = client.ask(frames.run(1, {"X": np.array([mib])}))
                assert (failed.kind, failed.flags) == (wire.ERROR, 13)
                assert failed.text.startswith("the model failed: out of memory")
                for well in (8, 200):
                    assert client.ask(frames.run(2, {"X": np.array([well])})).kind == wire.RESULT
            assert _resident_bytes(worker) < 150 << 20, "what a run had is given back"
        assert worker.stderr.read_text() == ""


def test_a_frame_larger_than_the_memory_that_is_left_is_refused(tmp_path: Path) -> None:
    with Worker(tmp_path, models.identity("UINT8", (-1, -1)), "--max-memory", str(64 << 20)) as worker:
        worker.ready()
        with worker.connect() as client:
            failed = client.ask(frames.run(1, {"X": np.zeros((1, 200 << 20), np.uint8)}))
            assert (failed.batch, failed.flags) == (1, 13)
            assert "out of memory" in failed.text
            assert client.ask(frames.run(2, {"X": np.zeros((1, 8), np.uint8)})).kind == wire.RESULT


def test_a_model_that_needs_more_than_it_may_is_not_served(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier(), "--max-memory", str(1 << 20)) as worker:
        assert worker.failed().endswith("needs more memory than a worker may hold, 1 MiB; raise max_memory")


def test_garbage_closes_its_connection_with_one_line(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        with worker.connect() as good, worker.connect() as bad:
            with pytest.raises(EOFError):
                bad.ask(os.urandom(3) + bytes(100))
            assert good.ask(frames.run(1, ROW)).kind == wire.RESULT
        assert len(worker.stderr.read_text().splitlines()) == 1
        assert "connection closed" in worker.stderr.read_text()


def test_a_row_that_crashes_the_process_crashes_only_the_process(tmp_path: Path) -> None:
    with Worker(tmp_path, models.crasher()) as worker:
        worker.ready()
        with worker.connect() as client, pytest.raises(EOFError):
            client.ask(frames.run(1, {"X": np.array([models.CRASH])}))
        assert worker.process.wait(PATIENCE_S) < 0


def test_a_stopped_proxy_makes_nobody_wait(tmp_path: Path) -> None:
    with Worker(tmp_path, models.identity("FP32", (-1, 1 << 20))) as worker:
        worker.ready()
        large = frames.run(1, {"X": np.ones((4, 1 << 20), np.float32)})
        small = {"X": np.zeros((1, 1 << 20), np.float32)}
        with worker.connect() as unread, worker.connect() as partial, worker.connect() as good:
            unread.send(large)
            partial.send(large[: 1 << 20])
            for batch in range(3):
                assert good.ask(frames.run(batch, small)).batch == batch
            assert unread.receive().tensors()["Y"].shape == (4, 1 << 20)
            partial.send(large[1 << 20 :])
            assert partial.receive().tensors()["Y"].sum() == 4 << 20


def test_many_proxies_at_once_each_get_their_own_answers(tmp_path: Path) -> None:
    with Worker(tmp_path, models.regressor()) as worker:
        worker.ready()
        wrong: list[object] = []

        def proxy(client: Client, number: int) -> None:
            for batch in range(100):
                x = np.full((3, 4), number * 1000 + batch, np.float32)
                client.send(frames.run(batch, {"X": x}))
                if batch:
                    check(client, number, batch - 1)
            check(client, number, 99)

        def check(client: Client, number: int, batch: int) -> None:
            answer = client.receive()
            expected = 4 * (number * 1000 + batch)
            if answer.batch != batch or not (answer.tensors()["Y"] == expected).all():
                wrong.append((number, batch, answer))

        clients = [worker.connect() for _ in range(4)]
        threads = [threading.Thread(target=proxy, args=pair) for pair in zip(clients, range(4), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        for client in clients:
            client.socket.close()
        assert not wrong


def test_ctrl_c_is_left_to_the_control_process(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        with worker.connect() as client:
            worker.process.send_signal(signal.SIGINT)
            assert client.ask(frames.run(1, ROW)).kind == wire.RESULT


def test_sigterm_lets_the_frame_being_run_finish(tmp_path: Path) -> None:
    with Worker(tmp_path, models.slow(rounds=1000)) as worker:
        worker.ready()
        x = {"X": np.ones((1, 4), np.float32)}
        with worker.connect() as client:
            used = _cpu_ticks(worker)
            client.send(frames.run(1, x) + frames.run(2, x))
            until(lambda: _cpu_ticks(worker) > used + 1)  # so it is at work
            worker.process.send_signal(signal.SIGTERM)
            assert client.receive().batch == 1
            with pytest.raises(EOFError):
                client.receive()
        assert worker.process.wait(PATIENCE_S) == 0


def test_a_worker_whose_control_process_died_serves_on(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        worker.close_status()
        with worker.connect() as client:
            for batch in range(3):
                assert client.ask(frames.run(batch, ROW)).batch == batch
        assert worker.terminate() == 0


def test_a_control_process_that_dies_while_the_model_loads(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.close_status()
        until(worker.path.exists)
        until(lambda: _connects(worker))
        assert worker.terminate() == 0


def test_an_idle_worker_takes_only_what_others_leave(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier(), "--idle") as worker:
        worker.ready()
        assert os.sched_getscheduler(worker.process.pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) == 19
        with worker.connect() as client:
            assert client.ask(frames.run(1, ROW)).kind == wire.RESULT


def test_one_thread_means_one_thread(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        assert len(list(Path(f"/proc/{worker.process.pid}/task").iterdir())) == 1
    with Worker(tmp_path, models.classifier(), "--threads", "2") as worker:
        worker.ready()
        assert len(list(Path(f"/proc/{worker.process.pid}/task").iterdir())) == 2


@pytest.mark.slow
def test_a_64_mb_frame_both_ways_and_memory_given_back(tmp_path: Path) -> None:
    with Worker(tmp_path, models.identity("FP32", (-1, -1))) as worker:
        worker.ready()
        with worker.connect() as client:
            x = np.arange(16 << 20, dtype=np.float32).reshape(1, -1)
            answers: list[frames.Answer] = []
            receiver = threading.Thread(target=lambda: answers.append(client.receive()))
            receiver.start()
            client.send(frames.run(1, {"X": x}))
            receiver.join(PATIENCE_S)
            np.testing.assert_array_equal(answers[0].tensors()["Y"], x)
            for batch in range(100):
                client.ask(frames.run(batch, {"X": x[:, :10]}))
            assert _resident_bytes(worker) < 200 << 20


@pytest.mark.slow
def test_memory_does_not_grow_with_use(tmp_path: Path) -> None:
    with Worker(tmp_path, models.classifier()) as worker:
        worker.ready()
        with worker.connect() as client:

            def use(times: int) -> int:
                for batch in range(times):
                    client.ask(frames.run(batch, rows(1 + batch % 64)))
                    client.ask(frames.run(batch, {"X": np.ones((1, 3), np.float32)}))
                return _resident_bytes(worker)

            before = use(1000)
            assert use(4000) < before + (4 << 20)


@pytest.mark.slow
def test_a_worker_without_control_process_and_proxies_ends(tmp_path: Path) -> None:
    model = models.save(tmp_path, "m", 1, models.classifier())
    command = [sys.executable, "-m", "workers", "--model", str(model), "--socket", str(tmp_path / "s"), "--status-fd"]
    control = f"""
import os, subprocess
read_fd, write_fd = os.pipe()
worker = subprocess.Popen({command!r} + [str(write_fd)], pass_fds=[write_fd], stdout=subprocess.DEVNULL)
os.close(write_fd)
while b'"ready"' not in os.read(read_fd, 65536): pass
print(worker.pid, flush=True)
os._exit(0)
"""
    started = subprocess.run([sys.executable, "-c", control], capture_output=True, timeout=PATIENCE_S, check=True)
    process = Path(f"/proc/{int(started.stdout)}")
    try:
        until(lambda: not process.exists() or ") Z" in (process / "stat").read_text())
        assert not (tmp_path / "s").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(started.stdout), signal.SIGKILL)


def _connects(worker: Worker) -> bool:
    try:
        with worker.connect() as client:
            return client.ask(frames.run(1, ROW)).kind == wire.RESULT
    except ConnectionRefusedError:
        return False


def _cpu_ticks(worker: Worker) -> int:
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _resident_bytes(worker: Worker) -> int:
    return int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
