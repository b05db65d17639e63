"""Canaries, forced arms and shadows through real processes and plain clients."""

import json
from collections import Counter
from pathlib import Path

import grpc
import pytest

from gateway.routing.assignment import bucket
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import ask, request
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

USERS = [f"user-{number}" for number in range(400)]


def test_a_release_from_shadow_to_canary(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        models.save(models_dir, "number", 2, models.constant(2))
        models.save(models_dir, "number", 3, models.constant(1))
        eventually(lambda: _found(gateway, 3))
        stub = GRPCInferenceServiceStub(channel)

        def answers() -> dict[str, int]:
            return {
                user: int(stub.ModelInfer(request("number"), metadata=[("x-user-id", user)], timeout=30).model_version)
                for user in USERS
            }

        assert set(answers().values()) == {1}

        gateway.cutover("shadow", "set", "number", "2", "--rate", "1.0", "--reason", "test")
        gateway.cutover("shadow", "set", "number", "3", "--rate", "1.0", "--reason", "test")
        assert set(answers().values()) == {1}
        for version, agreeing in (("2", 0), ("3", 1)):
            copies = gateway.wait_metric("cutover_shadow_copies_total", len(USERS), model="number", version=version)
            assert copies == len(USERS)
            rows = gateway.metric("cutover_shadow_rows_total", model="number", version=version)
            dropped = gateway.metric("cutover_shadow_copies_total", version=version, result="dropped")
            assert rows == len(USERS) - dropped > 0
            assert gateway.metric("cutover_shadow_agreed_rows_total", version=version) == agreeing * rows

        gateway.cutover("canary", "set", "number", "2", "--percent", "10", "--reason", "test")
        ten = answers()
        salt = json.loads(gateway.cutover("status", "number", "-o", "json").stdout)
        assert ten == {user: 2 if bucket("number/2", user) < 1000 else 1 for user in USERS}, salt
        gateway.cutover("canary", "set", "number", "2", "--percent", "30", "--reason", "test")
        thirty = answers()
        assert {user for user, version in ten.items() if version == 2} < {
            user for user, version in thirty.items() if version == 2
        }

        assert ask(gateway.target, "number", cutover_arm="canary-2")[0] == 2
        answered_by, trailers = ask(gateway.target, "number", user=USERS[0])
        assert answered_by == thirty[USERS[0]]
        assert trailers["cutover-reason"] == "split"
        assert trailers["cutover-arm"] == ("canary-2" if answered_by == 2 else "stable")
        assert trailers["cutover-revision"].isdigit()

        gateway.cutover("override", "set", "number", "--unit", USERS[0], "--unit", USERS[1], "--arm", "stable")
        assert ask(gateway.target, "number", user=USERS[1])[1]["cutover-reason"] == "override"
        pinned = answers()
        assert pinned == thirty | {USERS[0]: 1, USERS[1]: 1}
        computed = gateway.cutover("assign", "number", *(f"--unit={user}" for user in USERS[:20]), "-o", "json").stdout
        assert {one["unit"]: one["version"] for one in json.loads(computed)["assignments"]} == {
            user: pinned[user] for user in USERS[:20]
        }
        gateway.cutover("override", "remove", "number", "--unit", USERS[0], "--unit", USERS[1])
        assert answers() == thirty

        anonymous = Counter(
            int(stub.ModelInfer(request("number"), timeout=30).model_version) for _ in range(len(USERS))
        )
        assert 0.15 < anonymous[2] / len(USERS) < 0.45
        with pytest.raises(grpc.RpcError) as caught:
            ask(gateway.target, "number", cutover_arm="canary-9")
        assert "no arm 'canary-9'" in str(caught.value)


def _found(gateway: Gateway, version: int) -> bool:
    document = json.dumps(json.loads(gateway.cutover("models", "-o", "json").stdout))
    return f'"version": {version}' in document or f'"version": "{version}"' in document


def test_the_unit_may_be_a_request_parameter(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        gateway.cutover("canary", "set", "number", "1", "--percent", "50", "--reason", "test")
        stub = GRPCInferenceServiceStub(channel)
        for user in USERS[:50]:
            message = request("number")
            message.parameters["user_id"].string_param = user
            expected = 1 if bucket("number/1", user) < 5000 else 2
            assert int(stub.ModelInfer(message, timeout=30).model_version) == expected
