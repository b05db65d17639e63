"""The flip promise: no request fails, and none admitted after the reply of Flip is answered by the old version."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from protos import admin_pb2
from protos.admin_pb2_grpc import AdminStub
from tests import models
from tests.e2e.calls import Answer, Askers
from tests.e2e.waiting import eventually
from tests.serving import serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

NAME = "models/number/release"
PROXIES = 2
ROUNDS = 6


@dataclass(frozen=True)
class Change:
    """One flip or rollback: when it was asked for, when its reply came, and who answers from then on."""

    asked_s: float
    returned_s: float
    stable: int


def change(stub: AdminStub, *, rollback: bool) -> Change:
    """Flips or rolls back with the current etag."""
    etag = stub.GetRelease(admin_pb2.GetReleaseRequest(name=NAME)).etag
    fields = {"name": NAME, "etag": etag, "request_id": str(uuid.uuid4()), "reason": "test"}
    asked_s = time.monotonic()
    if rollback:
        release = stub.Rollback(admin_pb2.RollbackRequest(**fields), timeout=30)
    else:
        release = stub.Flip(admin_pb2.FlipRequest(**fields), timeout=30)
    return Change(asked_s, time.monotonic(), release.policy.stable_version)


def between(answers: list[Answer], after_s: float, before_s: float) -> list[Answer]:
    """The answers asked for after one moment that came before another."""
    return [answer for answer in answers if answer.asked_s > after_s and answer.came_s < before_s]


def test_flips_and_rollbacks_under_load_fail_nothing_and_leave_no_old_answer(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    with serving(models_dir, state_dir, "--proxies", str(PROXIES)) as gateway:
        gateway.cutover("standby", "set", "number", "1", "--reason", "the highest version was released at first sight")
        changes = []
        with (
            Askers(gateway.target, "number", threads=8) as askers,
            grpc.insecure_channel(f"127.0.0.1:{gateway.admin}") as channel,
        ):
            stub = AdminStub(channel)
            for step in range(2 * ROUNDS):
                askers.wait_more(100)
                changes.append(change(stub, rollback=step % 2 == 1))
            askers.wait_more(100)
        proxies = gateway.metric("cutover_proxies")

    assert proxies == PROXIES
    assert [answer.error for answer in askers.answers if answer.error] == []
    assert [done.stable for done in changes] == [1, 2] * ROUNDS
    nexts = [following.asked_s for following in changes[1:]] + [float("inf")]
    for done, next_s in zip(changes, nexts, strict=True):
        settled = between(askers.answers, done.returned_s, next_s)
        assert len(settled) >= 50
        assert [answer for answer in settled if answer.version != done.stable] == []


def test_users_are_spread_over_proxies(models_dir: Path, state_dir: Path) -> None:
    """Else the test above would prove nothing for the second proxy."""
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir, "--proxies", str(PROXIES)) as gateway:
        before = {pid: _sockets(pid) for pid in gateway.proxies()}
        assert len(before) == PROXIES
        with Askers(gateway.target, "number", threads=24) as askers:
            askers.wait_more(100)
            eventually(lambda: all(_sockets(pid) > count for pid, count in before.items()))


def _sockets(pid: int) -> int:
    return sum("socket:" in str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
