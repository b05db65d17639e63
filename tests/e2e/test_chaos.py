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
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.cli.chain import broken
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import request
from tests.e2e.history import NOTHING_CHANGED, Answer, Attempt, History, Window
from tests.e2e.waiting import eventually
from tests.serving import Gateway
from tests.transports import differs

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

MODEL = "number"
NAME = f"models/{MODEL}/release"
VERSIONS = (1, 2, 3)
PROXIES = 2
CLIENTS = 6
MAX_PENDING = 400
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
"""


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


def ask_on(chaos: Chaos, user: str) -> None:
    """Asks every few milliseconds, answered or not, over a connection that now and then is a new one."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    while not chaos.over.is_set():
        with grpc.insecure_channel(chaos.gateway.target, options=options) as channel:
            stub = GRPCInferenceServiceStub(channel)
            room = threading.Semaphore(MAX_PENDING)
            for _ in range(200):
                room.acquire()  # a proxy that stands still is asked on, and must not answer by what it knew before
                asked_s = time.monotonic()
                call = stub.ModelInfer.future(request(MODEL), metadata=[("x-user-id", user)], timeout=30)
                call.add_done_callback(partial(_answered, chaos.history, room, user, asked_s))
                if chaos.over.wait(0.01):
                    break
            for _ in range(MAX_PENDING):  # all have been answered when all the room is free again
                room.acquire()


def _answered(history: History, room: threading.Semaphore, user: str, asked_s: float, call: Any) -> None:
    came_s = time.monotonic()  # `call` is what grpc's types call a bare future
    if call.code() is grpc.StatusCode.OK:
        reply = call.result()
        revision = next(int(value) for key, value in call.trailing_metadata() if key == "cutover-revision")
        value = int(np.frombuffer(reply.raw_output_contents[0], np.int64)[0])
        history.answers.append(Answer(user, asked_s, came_s, int(reply.model_version), value, revision))
    else:
        history.answers.append(Answer(user, asked_s, came_s, error=f"{call.code().name}: {call.details()}"))
    room.release()


def operate(chaos: Chaos, seed: int) -> None:
    """Changes the release until it is over; what got no clear answer is sent once more with the same request id."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
    while not chaos.over.wait(chance.uniform(0.1, 0.6)):
        target = f"127.0.0.1:{chaos.gateway.admin}"
        with grpc.insecure_channel(target) as channel, suppress(grpc.RpcError):
            release = AdminStub(channel).GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)
            verb, values = _decide(chance, release)
            message = {"name": NAME, "etag": release.etag, "request_id": str(uuid.uuid4()), "reason": "chaos", **values}
            now_s = time.monotonic()
            attempt = Attempt(message["request_id"], verb, now_s, now_s)
            chaos.history.attempts.append(attempt)
            if not _try(channel, attempt, message) and chance.random() < 0.7:
                chaos.over.wait(chance.uniform(0, 8))
                with grpc.insecure_channel(f"127.0.0.1:{chaos.gateway.admin}") as another:
                    _try(another, attempt, message)


def _decide(chance: random.Random, release: pb.Release) -> tuple[str, dict[str, object]]:
    """Something that the release probably allows; flips and their ways back most of all."""
    others = [version for version in VERSIONS if version != release.policy.stable_version]
    version = chance.choice(others)
    if release.policy.standby_version and chance.random() < 0.5:
        return "Flip", {}
    if release.HasField("rollback_policy") and chance.random() < 0.3:
        return "Rollback", {}
    if release.policy.canaries and chance.random() < 0.3:
        return "RemoveCanary", {"version": release.policy.canaries[0].version}
    choices: list[tuple[str, dict[str, object]]] = [
        ("PrepareStandby", {"version": version}),
        ("PrepareStandby", {"version": version}),
        ("SetCanary", {"version": version, "basis_points": chance.randint(500, 5000)}),
        ("SetShadow", {"version": version, "rate": 0.5}),
    ]
    return chance.choice(choices)


def _try(channel: grpc.Channel, attempt: Attempt, message: dict[str, object]) -> bool:
    """Sends the change; false when it is not known whether it was made."""
    attempt.tried_s = time.monotonic()
    try:
        method = getattr(AdminStub(channel), attempt.verb)
        release: pb.Release = method(getattr(pb, f"{attempt.verb}Request")(**message), timeout=30)
    except grpc.RpcError as error:
        attempt.error = f"{error.code().name}: {error.details()}"
        return attempt.error.startswith(NOTHING_CHANGED)
    attempt.error, attempt.etag, attempt.returned_s = "", release.etag, time.monotonic()
    attempt.revision = release.revision
    return True


@contextmanager
def traffic(chaos: Chaos, seed: int) -> Iterator[None]:
    """Clients and operators for as long as the block lasts."""
    threads = [threading.Thread(target=ask_on, args=(chaos, f"user-{number}")) for number in range(CLIENTS)]
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


def read_records(gateway: Gateway) -> tuple[list[pb.AuditEvent], pb.Release]:
    """The whole audit log, newest first, and the release."""
    events: list[pb.AuditEvent] = []
    token = ""
    with grpc.insecure_channel(f"127.0.0.1:{gateway.admin}") as channel:
        stub = AdminStub(channel)
        while True:
            page = stub.ListAuditEvents(pb.ListAuditEventsRequest(page_token=token), timeout=20)
            events += page.events
            token = page.next_page_token
            if not token:
                return events, stub.GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)


def survivors(lives: list[Gateway]) -> list[str]:
    """Processes that any of the gateways left behind: each gateway leads a process group."""
    groups = {gateway.pid for gateway in lives}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            if int(fields[2]) in groups and fields[0] != "Z":
                found.append(f"{entry.name} {(entry / 'cmdline').read_text()}")
    return found


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
