"""The promises while everything is killed, stopped and changed at once; `history` checks what was seen.

Repeat a run with CUTOVER_CHAOS_SEED: chance decides what happens when, though the machine has its say, too.
"""

import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from gateway.cli.chain import broken
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests import models
from tests.e2e.history import Attempt, History, Window
from tests.e2e.storm import MODEL, NAME, VERSIONS, ask_on, decide, read_records, survivors, try_change
from tests.e2e.waiting import eventually
from tests.serving import Gateway
from tests.transports import differs

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

PROXIES = 2
CLIENTS = 6
OPERATORS = 2
LIVES = 3
"""Control processes, each but the last killed."""
LIFE_S = 12.0
MAX_STOP_S = 4.0
"""Longer than a proxy may take to acknowledge, so some are fenced."""
RECOVERY_S = 5.0
"""How long clients may notice: until they are connected to a proxy that lives."""
WORKER_PAUSE_S = 5.0
"""Between two kills of workers: more, and a request may lose its worker twice, or the pool counts as crash-looping."""
CONVERGED_S = 40.0
CONFIG = """
[server]
drain_grace = "5s"
[limits]
worker_wait = "60s"
max_queue = 4096
"""
"""The queue of one proxy holds all that the clients ask while a worker stands still: 200 of each. A full queue refuses,
and would be right to."""


class Chaos:
    """A gateway that is maltreated, with its clients and operators."""

    def __init__(self, models_dir: Path, state: Path, seed: int) -> None:
        self.history = History()
        self.random = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
        self.over = threading.Event()
        self.lives: list[Gateway] = []
        config = state.with_name("cutover.toml")
        config.write_text(CONFIG)
        self._options = (models_dir, state, "--config", str(config), "--proxies", str(PROXIES))
        self._timers: list[threading.Timer] = []
        self._worker_killed_s = 0.0
        self.start()

    @property
    def gateway(self) -> Gateway:
        return self.lives[-1]

    def target(self) -> str:
        """Where clients ask now."""
        return self.gateway.target

    def start(self) -> None:
        """A control process, the first or the successor of one that was killed."""
        port = str(self.gateway.grpc) if self.lives else "0"
        self.lives.append(Gateway(*self._options, "--grpc-port", port))
        self.history.ready_s.append(time.monotonic())

    def storm(self) -> None:
        """One life of the control process: something every second or two."""
        until = time.monotonic() + LIFE_S
        while time.monotonic() < until:
            self.random.choice((self._kill_worker, self._stop_worker, self._kill_proxy, self._stop_proxy))()
            time.sleep(self.random.uniform(0.5, 2.0))

    def kill_control(self) -> None:
        """In the middle of a change; its proxies and workers stay, and its successor takes over from them."""
        changes = len(self.history.attempts)
        eventually(lambda: len(self.history.attempts) > changes)
        time.sleep(self.random.uniform(0, 0.02))
        began_s = time.monotonic()
        os.kill(self.gateway.pid, signal.SIGKILL)
        self.gateway.process.wait()
        self.start()
        self.history.windows.append(Window(began_s, time.monotonic() + RECOVERY_S, "control killed"))

    def calm(self) -> None:
        """Whatever was stopped goes on."""
        for timer in self._timers:
            timer.join()

    def _kill_worker(self) -> None:
        if time.monotonic() > self._worker_killed_s + WORKER_PAUSE_S and (workers := self.gateway.workers()):
            self._worker_killed_s = time.monotonic()
            _signal(self.random.choice(workers), signal.SIGKILL)

    def _stop_worker(self) -> None:
        if workers := self.gateway.workers():
            self._stop(self.random.choice(workers))

    def _kill_proxy(self) -> None:
        if proxies := self.gateway.proxies():
            self._broken(0, "proxy killed")
            _signal(self.random.choice(proxies), signal.SIGKILL)

    def _stop_proxy(self) -> None:
        if proxies := self.gateway.proxies():
            self._broken(self._stop(self.random.choice(proxies)), "proxy stopped")

    def _stop(self, pid: int) -> float:
        stop_s = self.random.uniform(0.2, MAX_STOP_S)
        _signal(pid, signal.SIGSTOP)
        timer = threading.Timer(stop_s, _signal, (pid, signal.SIGCONT))
        self._timers.append(timer)
        timer.start()
        return stop_s

    def _broken(self, for_s: float, what: str) -> None:
        now_s = time.monotonic()
        self.history.windows.append(Window(now_s, now_s + for_s + RECOVERY_S, what))


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def operate(chaos: Chaos, seed: int) -> None:
    """Changes the release until it is over; what got no clear answer is sent once more with the same request id."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
    while not chaos.over.wait(chance.uniform(0.1, 0.6)):
        target = f"127.0.0.1:{chaos.gateway.admin}"
        with grpc.insecure_channel(target) as channel, suppress(grpc.RpcError):
            release = AdminStub(channel).GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)
            verb, values = decide(chance, release)
            message = {"name": NAME, "etag": release.etag, "request_id": str(uuid.uuid4()), "reason": "chaos", **values}
            now_s = time.monotonic()
            attempt = Attempt(message["request_id"], verb, now_s, now_s)
            chaos.history.attempts.append(attempt)
            if not try_change(channel, attempt, message) and chance.random() < 0.7:
                chaos.over.wait(chance.uniform(0, 8))
                with grpc.insecure_channel(f"127.0.0.1:{chaos.gateway.admin}") as another:
                    try_change(another, attempt, message)


@contextmanager
def traffic(chaos: Chaos, seed: int) -> Iterator[None]:
    """Clients and operators for as long as the block lasts."""
    threads = [
        threading.Thread(target=ask_on, args=(chaos.history, chaos.over, chaos.target, f"user-{number}"))
        for number in range(CLIENTS)
    ]
    threads += [threading.Thread(target=operate, args=(chaos, seed + number)) for number in range(OPERATORS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        chaos.over.set()
        for thread in threads:
            thread.join(timeout=60)


def converged(gateway: Gateway) -> bool:
    """Every proxy listens, the gateway is ready, and so is every version that the release names."""
    with suppress(urllib.error.URLError), grpc.insecure_channel(f"127.0.0.1:{gateway.admin}") as channel:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.http}/health/ready", timeout=5) as reply:
            ready = reply.status == 200
        stub = AdminStub(channel)
        release = stub.GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)
        named = {release.policy.stable_version, *(canary.version for canary in release.policy.canaries)}
        listed = stub.ListVersions(pb.ListVersionsRequest(parent=f"models/{MODEL}"), timeout=20).versions
        states = {version.version: version.state for version in listed}
        return (
            ready
            and gateway.metric("cutover_proxies") == PROXIES
            and all(states[version] == pb.Version.READY for version in named)
        )
    return False


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_promises_hold_while_everything_breaks(models_dir: Path, state_dir: Path, each_transport: str) -> None:
    seed = int(os.environ.get("CUTOVER_CHAOS_SEED", "1"))
    for version in VERSIONS:
        models.save(models_dir, MODEL, version, models.constant(version))
    chaos = Chaos(models_dir, state_dir, seed)
    chaos.history.excusable |= differs("draining", each_transport, h2=frozenset(), grpcio=frozenset(("CANCELLED",)))
    try:
        with traffic(chaos, seed):
            for life in range(LIVES):
                if life:
                    chaos.kill_control()
                chaos.storm()
            chaos.calm()
            eventually(lambda: converged(chaos.gateway), limit_s=CONVERGED_S)
        newest_first, final = read_records(chaos.gateway)
        assert chaos.gateway.stop() == 0
        assert survivors(chaos.lives) == []
    except BaseException:
        sys.stderr.write(chaos.gateway.log_tail())
        raise
    finally:
        chaos.over.set()
        chaos.calm()
        for gateway in chaos.lives:
            gateway.kill()
    history = chaos.history
    seen = Counter(attempt.error.partition(":")[0] or "OK" for attempt in history.attempts)
    assert broken(newest_first) is None
    assert history.problems(newest_first[::-1], final) == []
    assert seen["OK"] >= 10, seen
    assert sum(not answer.error for answer in history.answers) >= 1000
