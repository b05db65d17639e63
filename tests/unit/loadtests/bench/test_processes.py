import os
import socket
import sys
from pathlib import Path

import pytest

from loadtests.bench import processes
from loadtests.bench.errors import BenchError

CHILD = "import time; print(1, flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_all_that_a_process_started_is_found_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with processes.running([sys.executable, "-c", PARENT], log) as process:
        while not log.read_text():  # the child has said that it is there
            assert process.poll() is None
        pids = processes.tree(process.pid)
        assert len(pids) == 2
        assert pids[0] == process.pid
        assert processes.resident_bytes(pids) > processes.resident_bytes(pids[:1]) > 1 << 20
        assert processes.with_argument(pids, PARENT) == pids[:1]
    assert process.returncode is not None
    assert processes.tree(process.pid) == [process.pid]  # nobody calls it a parent any more
    assert processes.cpu_s([process.pid]) == 0
    assert processes.resident_bytes([process.pid]) == 0
    assert processes.last_line(log) == "1"


def test_cpu_time_is_that_of_the_kernel() -> None:
    before_s, own = processes.cpu_s([os.getpid()]), sum(os.times()[:2])
    assert before_s == pytest.approx(own, abs=0.05)
    assert processes.cpu_s([os.getpid(), os.getpid()]) == pytest.approx(2 * own, abs=0.1)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="/nowhere/program could not be started: No such file"),
        processes.running(["/nowhere/program"], tmp_path / "log"),
    ):
        pass


def test_waiting_for_a_port(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (port,) = processes.free_ports(1)
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    with processes.running([sys.executable, "-c", listen], log) as process:
        processes.wait_for_port(port, process, log, 60)
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_process_that_ends_or_does_not_listen(tmp_path: Path, unused_tcp_port: int) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(BenchError, match="it ended with 3: no luck"),
        processes.running(["sh", "-c", "echo no luck; exit 3"], log) as process,
    ):
        processes.wait_for_port(unused_tcp_port, process, log, 60)
    with (
        pytest.raises(BenchError, match="it does not listen after 0 s: it said nothing"),
        processes.running(["sleep", "60"], log) as process,
    ):
        processes.wait_for_port(unused_tcp_port, process, log, 0)


def test_a_process_is_given_its_environment_and_folder(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "echo $MODEL $PWD"]
    with processes.running(command, log, environment={"MODEL": "m"}, cwd=tmp_path) as process:
        process.wait(60)
    assert processes.last_line(log) == f"m {tmp_path}"


def test_free_ports_are_all_different() -> None:
    assert len(set(processes.free_ports(5))) == 5


def test_what_nobody_said(tmp_path: Path) -> None:
    assert processes.last_line(tmp_path / "none") == "it said nothing"
