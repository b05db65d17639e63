"""Several gateways on one PostgreSQL: what one was told, all do, and who cannot say so is counted out.

Repeat a storm with CUTOVER_CHAOS_SEED: chance decides what happens when, though the machine has its say, too.
"""

import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import pytest

from gateway.cli.chain import broken
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests.e2e.calls import ask
from tests.e2e.history import Attempt, History, Window
from tests.e2e.several import NAMES, Trio, pause
from tests.e2e.storm import MODEL, NAME, ask_on, decide, read_records, survivors, try_change
from tests.e2e.waiting import eventually
from tests.postgres import Server
from tests.wire import Wire

STOP = 'cut_off = "stop"\nlease = "{lease}"\n'
CLIENTS = 2
"""Of each gateway."""
OPERATORS = 8
STORM_S = 60.0
RECOVERY_S = 8.0
"""How long clients may notice what was broken."""
CONVERGED_S = 60.0


def change(trio: Trio, name: str, verb: str, **values: object) -> pb.Release:
    """A change at one gateway, on the state that it knows."""
    with grpc.insecure_channel(f"127.0.0.1:{trio[name].admin}") as channel:
        stub = AdminStub(channel)
        release = stub.GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)
        request = getattr(pb, f"{verb}Request")(name=NAME, etag=release.etag, reason="test", **values)
        changed: pb.Release = getattr(stub, verb)(request, timeout=40)
    return changed


def answering(trio: Trio) -> dict[str, int]:
    """Which version answers, by gateway; 0: it has stopped, -1: there is no answer."""
    found = {}
    for name in NAMES:
        try:
            found[name] = ask(trio[name].target, MODEL)[0]
        except grpc.RpcError as error:
            found[name] = 0 if "has lost its store" in str(error) else -1
    return found


def applied(release: pb.Release) -> set[tuple[str, int, bool]]:
    """Who serves it: gateway, proxy, whether it was fenced."""
    return {(one.gateway, one.proxy, one.fenced) for one in release.applied}


def test_what_one_gateway_is_told_all_do_and_one_that_dies_is_counted_out(tmp_path: Path, postgres: Server) -> None:
    with Trio(tmp_path, postgres, STOP.format(lease="1s")) as trio:
        change(trio, "a", "PrepareStandby", version=1)
        flipped = change(trio, "b", "Flip")
        assert applied(flipped) == {("", 0, False), ("a", 0, False), ("c", 0, False)}
        assert answering(trio) == {"a": 1, "b": 1, "c": 1}
        eventually(lambda: {one.lease_ms for one in trio.listed("c").values()} == {1000})
        trio.kill_control("c")
        back = change(trio, "a", "Rollback")
        assert ("c", -1, True) in applied(back)
        assert answering(trio) == {"a": 3, "b": 3, "c": 0}
        assert set(trio.listed("b")) == {"a", "b"}
        assert trio["b"].stop() == 0
        assert trio.psql("SELECT id FROM gateways") == "a"


class Storm:
    """Gateways that are maltreated, with their clients and operators."""

    def __init__(self, trio: Trio, server: Server, seed: int) -> None:
        self.history = History()
        self.random = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
        self.over = threading.Event()
        self._trio = trio
        self._server = server
        self._timers: list[threading.Timer] = []

    def rage(self) -> None:
        """Something every second or two."""
        until_s = time.monotonic() + STORM_S
        blows = (self._kill_control, self._pause_control, self._kill_proxy, self._pause_proxy, self._cut, self._silence)
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            blow = self.random.choice((*blows, self._restart_database))
            lasts_s = blow(self.random.choice(NAMES))
            self.history.windows.append(Window(began_s, time.monotonic() + lasts_s + RECOVERY_S, blow.__name__))
            time.sleep(self.random.uniform(0.5, 2.5))
        self.calm()

    def calm(self) -> None:
        """Whatever was stopped goes on."""
        for timer in self._timers:
            timer.join()
        for name in NAMES:
            self._trio.wires.do(name, Wire.restore)

    def _kill_control(self, name: str) -> float:
        changes = len(self.history.attempts)
        eventually(lambda: len(self.history.attempts) > changes)
        time.sleep(self.random.uniform(0, 0.05))  # in the middle of a change
        self._trio.kill_control(name)
        time.sleep(self.random.choice((0.0, 3.0)))
        self._trio.wires.do(name, Wire.restore)
        self._trio.start(name)
        return 0.0

    def _pause_control(self, name: str) -> float:
        return self._pause(self._trio[name].pid, self.random.uniform(0.5, 9.0))

    def _kill_proxy(self, name: str) -> float:
        for pid in self._trio[name].proxies()[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return 0.0

    def _pause_proxy(self, name: str) -> float:
        pids = self._trio[name].proxies()
        return self._pause(self.random.choice(pids), self.random.uniform(0.2, 4.0)) if pids else 0.0

    def _pause(self, pid: int, for_s: float) -> float:
        with suppress(ProcessLookupError):
            self._timers.append(pause(pid, for_s))
        return for_s

    def _cut(self, name: str) -> float:
        lasts_s = self.random.choice((0.0, 2.0, 8.0))
        self._trio.wires.do(name, partial(Wire.cut, refuse=lasts_s > 0))
        return self._restore_after(name, lasts_s)

    def _silence(self, name: str) -> float:
        self._trio.wires.do(name, Wire.silence)
        return self._restore_after(name, self.random.uniform(0.2, 9.0))

    def _restore_after(self, name: str, lasts_s: float) -> float:
        timer = threading.Timer(lasts_s, self._trio.wires.do, (name, Wire.restore))
        timer.start()
        self._timers.append(timer)
        return lasts_s

    def _restart_database(self, _: str) -> float:
        if self.random.random() < 0.5:
            self._server.restart()
        else:
            self._server.kill()
            time.sleep(self.random.uniform(0, 3))
            self._server.start()
        return 0.0

    def operate(self, seed: int) -> None:
        """Changes the release at any gateway; what got no clear answer is sent again, to any, with the same id."""
        chance = random.Random(seed)  # noqa: S311 - a repeatable test, not a secret
        while not self.over.wait(chance.uniform(0.02, 0.3)):
            with self._admin(chance) as channel, suppress(grpc.RpcError):
                release = AdminStub(channel).GetRelease(pb.GetReleaseRequest(name=NAME), timeout=5)
                verb, values = decide(chance, release)
                message = {"name": NAME, "etag": release.etag, "request_id": str(uuid.uuid4()), **values}
                began_s = time.monotonic()
                attempt = Attempt(str(message["request_id"]), verb, began_s, began_s)
                self.history.attempts.append(attempt)
                clear = try_change(channel, attempt, message)
                while not clear and chance.random() < 0.7:
                    attempt.unsure = True
                    self.over.wait(chance.uniform(0, 4))
                    with self._admin(chance) as another:
                        clear = try_change(another, attempt, message)

    def _admin(self, chance: random.Random) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self._trio[chance.choice(NAMES)].admin}")

    def _target(self, name: str) -> str:
        return self._trio[name].target

    @contextmanager
    def traffic(self, seed: int) -> Iterator[None]:
        """Clients of every gateway, and operators, for as long as the block lasts."""
        clients = [(name, f"{name}-{number}") for name in NAMES for number in range(CLIENTS)]
        threads = [
            threading.Thread(target=ask_on, args=(self.history, self.over, partial(self._target, name), user, 0.02))
            for name, user in clients
        ]
        threads += [threading.Thread(target=self.operate, args=(seed + number,)) for number in range(OPERATORS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(timeout=60)

    def converged(self) -> bool:
        """All are there, none is silent, and all serve the same change."""
        with suppress(grpc.RpcError):
            found = self._trio.listed("a")
            return (
                set(found) == set(NAMES)
                and not any(one.silent for one in found.values())
                and min(answering(self._trio).values()) > 0
            )
        return False


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("cut_off", ["stop", "serve"])
def test_promises_hold_across_gateways_while_everything_breaks(
    cut_off: str, tmp_path: Path, own_postgres: Server
) -> None:
    seed = int(os.environ.get("CUTOVER_CHAOS_SEED", "1"))
    settings = STOP.format(lease="3s") if cut_off == "stop" else ""
    with Trio(tmp_path, own_postgres, settings, proxies=2, shifted="b") as trio:
        storm = Storm(trio, own_postgres, seed)
        try:
            with storm.traffic(seed):
                storm.rage()
                eventually(storm.converged, limit_s=CONVERGED_S)
            newest_first, final = read_records(trio["a"])
            assert [trio[name].stop() for name in NAMES] == [0, 0, 0]
            assert survivors(trio.lives) == []
        except BaseException:
            sys.stderr.write(trio.log_tails())
            raise
        finally:
            storm.calm()
    changes = [event for event in newest_first[::-1] if event.kind == "change"]
    seen = Counter(attempt.error.partition(":")[0] or "OK" for attempt in storm.history.attempts)
    times_s = [event.time.seconds for event in newest_first]
    assert broken(newest_first) is None
    assert storm.history.problems(changes, final) == []
    assert seen["OK"] >= 20, seen
    assert sum(not answer.error for answer in storm.history.answers) >= 2000
    assert max(times_s) - min(times_s) > 3600, "the clock of one has leapt"
