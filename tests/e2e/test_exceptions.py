"""Rules, units, holdouts and timeouts of a release, through real processes and a plain client."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gateway.controlplane import audit
from gateway.controlplane.release import Fact, unborn
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import Assignment, Canary, Policy, Range, Release, Rule
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import ask, open_channel, request
from tests.serving import Gateway, serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

EXCEPTIONS = Policy(
    1,
    (Canary(2, (Range(0, 5000),)),),
    salt="number/2",
    rules=(Rule("x-region", ("eu", "us"), "canary-2"),),
    assignment=Assignment(unit_metadata=("x-tenant",), unit_parameters=(), no_unit="stable"),
)
TENANTS = [f"tenant-{number}" for number in range(60)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, each_transport: str) -> Iterator[Gateway]:
    """With releases that were kept before it started."""
    folder = tmp_path_factory.mktemp(f"exceptions-{each_transport}")
    for version in (1, 2, 3):
        models.save(folder / "models", "number", version, models.constant(version))
    models.save(folder / "models", "quick", 1, models.constant(1))
    alone = models.save(folder / "models", "slow", 1, models.slow(rounds=200))
    alone.with_name("model.toml").write_text('batching = "off"\n')
    policies = {"number": EXCEPTIONS, "quick": Policy(1, timeout_ms=30_000), "slow": Policy(1, timeout_ms=10)}
    asyncio.run(keep(folder / "state" / "cutover.db", policies))
    with serving(folder / "models", folder / "state") as started:
        yield started


async def keep(path: Path, policies: dict[str, Policy]) -> None:
    """Puts releases into a store."""
    store = SqliteStore(path)
    await store.open()
    try:
        for model, policy in policies.items():
            before, after = unborn(model), Release(model, 1, policy)
            event = audit.draft(Fact("register", before, after), actor="test", reason="", request_id="")
            await store.commit(0, after, event, None)
    finally:
        await store.close()


def test_exceptions_decide_before_buckets_and_stay_through_changes(gateway: Gateway) -> None:
    split = answers(gateway)
    assert split == {tenant: (2, "split") if bucket("number/2", tenant) < 5000 else (1, "split") for tenant in TENANTS}
    assert said(gateway, user="ann") == (1, "no-unit"), "users are not units here"
    for region in ("eu", "us"):
        assert {said(gateway, tenant=tenant, region=region) for tenant in TENANTS[:8]} == {(2, "rule")}
    assert said(gateway, region="eu") == (2, "rule")
    assert said(gateway, tenant=TENANTS[0], region="asia") == split[TENANTS[0]]

    gateway.cutover("holdout", "set", "number", "--percent", "40")
    held = {tenant: (1, "holdout") for tenant in TENANTS if is_held(tenant)}
    assert 0 < len(held) < len(TENANTS)
    assert answers(gateway) == split | held
    assert said(gateway, tenant=next(iter(held)), region="eu") == (2, "rule")

    gateway.cutover("promote", "number", "2")
    assert answers(gateway) == dict.fromkeys(TENANTS, (2, "stable")) | held
    gateway.cutover("standby", "set", "number", "3")
    gateway.cutover("flip", "number")
    assert answers(gateway) == dict.fromkeys(TENANTS, (3, "stable")) | held
    computed = gateway.cutover("assign", "number", *(f"--unit={tenant}" for tenant in TENANTS), "-o", "json").stdout
    assert {one["unit"]: (one["version"], one["reason"]) for one in json.loads(computed)["assignments"]} == answers(
        gateway
    )
    gateway.cutover("rollback", "number")
    assert answers(gateway) == dict.fromkeys(TENANTS, (2, "stable")) | held
    gateway.cutover("holdout", "remove", "number")
    assert answers(gateway) == dict.fromkeys(TENANTS, (2, "stable"))


def test_a_request_takes_no_longer_than_its_release_allows(gateway: Gateway) -> None:
    """One of them is run at a time, and takes longer than that."""
    with open_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(request("slow")) for _ in range(10)]
        late = [error for call in calls if isinstance(error := call.exception(timeout=30), grpc.RpcError)]
        assert late
        for error in late:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "it is the release's: timeout_ms = 10" in str(error.details())
        assert stub.ModelInfer(request("quick")).model_version == "1"


def said(gateway: Gateway, user: str = "", tenant: str = "", region: str = "") -> tuple[int, str]:
    """Version and reason of one answer."""
    version, trailers = ask(gateway.target, "number", user, x_tenant=tenant, x_region=region)
    return version, trailers["cutover-reason"]


def answers(gateway: Gateway) -> dict[str, tuple[int, str]]:
    """Version and reason by tenant."""
    found = {}
    with open_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for tenant in TENANTS:
            reply, call = stub.ModelInfer.with_call(request("number"), metadata=[("x-tenant", tenant)], timeout=30)
            found[tenant] = int(reply.model_version), dict(call.trailing_metadata())["cutover-reason"]
    return found


def is_held(tenant: str) -> bool:
    """By a bucket of its own salt."""
    return bucket("number/holdout/1", tenant) < 4000
