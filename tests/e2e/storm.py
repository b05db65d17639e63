"""Clients and operators who never stop, and what they saw, for tests in which everything breaks."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.e2e.calls import request
from tests.e2e.history import NOTHING_CHANGED, Answer, Attempt, History
from tests.serving import Gateway

MODEL = "number"
NAME = f"models/{MODEL}/release"
VERSIONS = (1, 2, 3)
MAX_PENDING = 400


def ask_on(
    history: History, over: threading.Event, target: Callable[[], str], user: str, pause_s: float = 0.01
) -> None:
    """Asks every few milliseconds, answered or not, over a connection that now and then is a new one."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    while not over.is_set():
        with grpc.insecure_channel(target(), options=options) as channel:
            stub = GRPCInferenceServiceStub(channel)
            room = threading.Semaphore(MAX_PENDING)
            for _ in range(200):
                room.acquire()  # a proxy that stands still is asked on, and must not answer by what it knew before
                asked_s = time.monotonic()
                call = stub.ModelInfer.future(request(MODEL), metadata=[("x-user-id", user)], timeout=30)
                call.add_done_callback(partial(_answered, history, room, user, asked_s))
                if over.wait(pause_s):
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


def decide(chance: random.Random, release: pb.Release) -> tuple[str, dict[str, object]]:
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


def try_change(channel: grpc.Channel, attempt: Attempt, message: dict[str, object]) -> bool:
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
