"""The admin API through a real channel, on a store on disk; only the fleet is a fake."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from structlog.testing import capture_logs

from gateway.controlplane import audit, overrides, pages
from gateway.controlplane.admin import AdminService, start_admin
from gateway.controlplane.api import watching
from gateway.controlplane.api.gateways import Gateways
from gateway.controlplane.peers import Peers
from gateway.controlplane.ports import Applied
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.members import Report
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import NotReady
from gateway.observe.statistics import SeriesTotals, ShadowTotals, Statistics
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet, status
from tests.unit.gateway.controlplane.fake_group import Clock, SharedStore

IRIS = "models/iris/release"


class Gateway:
    """A control plane without processes, and a client of it."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path / "cutover.db")
        self.fleet = FakeFleet()
        self.statistics = Statistics()
        self.now_ms = 1_700_000_000_000
        self.releases = Releases(self.store, self.fleet, self.clock_ms)
        self.stub: Any = None  # the generated stub has no types

    def clock_ms(self) -> int:
        self.now_ms += 1
        return self.now_ms

    async def change(self, rpc: str, *, name: str = IRIS, etag: str | None = None, **fields: Any) -> pb.Release:
        """Calls a changing RPC on the current etag unless another is given."""
        current = (await self.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))).etag if etag is None else etag
        request = getattr(pb, f"{rpc}Request")(name=name, etag=current, **fields)
        changed: pb.Release = await getattr(self.stub, rpc)(request, metadata=(("cutover-actor", "ada"),))
        return changed


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path)
    await made.store.open()
    await made.releases.start()
    await made.releases.register("iris", 1)
    service = AdminService(made.releases, made.store, made.fleet, made.statistics, Gateways(None))
    server, port = await start_admin(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.stub = AdminStub(channel)
        yield made
    await made.releases.close()
    await server.stop(None)
    await made.store.close()


async def fails(calling: Any, code: grpc.StatusCode, details: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    assert caught.value.code() is code
    assert details in (caught.value.details() or "")


async def test_releases_are_got_and_listed(gateway: Gateway) -> None:
    await gateway.releases.register("wine", 3)
    release = await gateway.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))
    assert (release.model, release.revision, release.policy.stable_version) == ("iris", 1, 1)
    listed = await gateway.stub.ListReleases(pb.ListReleasesRequest())
    assert [found.name for found in listed.releases] == [IRIS, "models/wine/release"]


async def test_a_rollout_from_shadow_to_flip_and_back(gateway: Gateway) -> None:
    await gateway.change("SetShadow", version=2, rate=0.5)
    await gateway.change("SetCanary", version=2, basis_points=1_000)
    release = await gateway.change("PrepareStandby", version=2)
    assert release.policy == pb.Policy(
        stable_version=1,
        canaries=[pb.Canary(version=2, basis_points=1_000, ranges=[pb.BucketRange(start=0, end=1_000)])],
        shadows=[pb.Shadow(version=2, rate=0.5)],
        standby_version=2,
        salt="iris/2",
    )
    flipped = await gateway.change("Flip")
    assert flipped.policy == pb.Policy(stable_version=2)
    assert flipped.rollback_policy == release.policy
    back = await gateway.change("Rollback")
    assert back.policy == release.policy
    assert (await gateway.change("RemoveCanary", version=2)).policy.salt == ""
    last = await gateway.change("RemoveShadow", version=2)
    assert last == await gateway.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))
    assert last.revision == 8


async def test_units_are_overridden_listed_and_end_with_their_arm(gateway: Gateway) -> None:
    await gateway.change("SetCanary", version=2, basis_points=1)
    units = {f"user-{number}": "canary-2" for number in range(5)} | {"ann": "stable"}
    assert (await gateway.change("SetOverrides", overrides=units)).policy.override_count == 6
    changed = await gateway.change("SetOverrides", overrides={"bob": "stable"}, remove=["user-0", "nobody"])
    assert (changed.revision, changed.policy.override_count) == (4, 6)
    request, seen = pb.ListOverridesRequest(name=IRIS, page_size=4), []
    while True:
        page = await gateway.stub.ListOverrides(request)
        assert (page.revision, len(page.overrides) <= 4) == (4, True)
        seen += [(one.unit, one.arm) for one in page.overrides]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [("ann", "stable"), ("bob", "stable"), *((f"user-{number}", "canary-2") for number in range(1, 5))]
    some = await gateway.stub.ListOverrides(pb.ListOverridesRequest(name=IRIS, units=["bob", "nobody"]))
    assert [(one.unit, one.arm) for one in some.overrides] == [("bob", "stable")]
    assert (await gateway.change("RemoveCanary", version=2)).policy.override_count == 2
    events = (await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest(page_size=2))).events
    assert json.loads(events[1].after)["policy"]["override_list"]["removed"] == {"user-0": "canary-2"}
    assert json.loads(events[0].before)["policy"]["override_list"]["count"] == 6


async def test_all_models_together_have_a_most_of_overrides(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "MAX_ALL_OVERRIDES", 1)
    await gateway.releases.register("wine", 1)
    await gateway.change("SetOverrides", overrides={"ann": "stable"})
    wine = "models/wine/release"
    etag = (await gateway.stub.GetRelease(pb.GetReleaseRequest(name=wine))).etag
    setting = gateway.change("SetOverrides", name=wine, etag=etag, overrides={"bob": "stable"})
    await fails(setting, grpc.StatusCode.FAILED_PRECONDITION, "all models together would have 2 overrides")


async def test_a_canary_goes_all_the_way_and_back(gateway: Gateway) -> None:
    gateway.fleet.applied = (Applied(1, 2.5),)
    await gateway.change("SetHoldout", basis_points=500)
    canary = await gateway.change("SetCanary", version=2, basis_points=100)
    assert (canary.sequence, list(canary.applied)) == (3, [pb.Applied(proxy=1, took_ms=2.5)])
    promoted = await gateway.change("PromoteCanary", version=2)
    assert (promoted.policy.stable_version, promoted.policy.holdout.version) == (2, 1)
    assert (await gateway.change("Rollback", revision=3)).policy == canary.policy
    assert (await gateway.change("PauseRelease")).paused
    await fails(gateway.change("PromoteCanary", version=2), grpc.StatusCode.FAILED_PRECONDITION, "iris is paused")
    assert not (await gateway.change("AbortRelease")).policy.canaries
    assert not (await gateway.change("ResumeRelease")).paused
    assert (await gateway.change("RemoveHoldout")).policy == pb.Policy(stable_version=1)


async def test_an_error_says_more_to_programs(gateway: Gateway) -> None:
    said = []
    for change in (gateway.change("Flip"), gateway.change("SetShadow", version=2, rate=2.0)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change
        (details,) = [
            value for key, value in caught.value.trailing_metadata() or () if key == "grpc-status-details-bin"
        ]
        said.append([any_.type_url.rpartition(".")[2] for any_ in status_pb2.Status.FromString(details).details])
        assert b"NO_STANDBY" in details or b"rate" in details
    assert said == [["ErrorInfo", "PreconditionFailure"], ["ErrorInfo", "BadRequest"]]


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("SetShadow", {"version": 2, "rate": 1.0}),
        ("SetCanary", {"version": 2, "basis_points": 1}),
        ("SetOverrides", {"overrides": {"ann": "stable"}}),
        ("PrepareStandby", {"version": 2}),
        ("PauseRelease", {}),
        ("SetHoldout", {"basis_points": 1}),
    ],
)
async def test_what_is_only_validated_changes_nothing(gateway: Gateway, rpc: str, fields: dict[str, Any]) -> None:
    before = gateway.releases.get("iris")
    made = await gateway.change(rpc, validate_only=True, request_id="id-1", **fields)
    assert (made.revision, made.etag) == (2, "")
    assert (gateway.releases.get("iris"), len(await gateway.store.events(None, 9, None))) == (before, 1)
    assert (await gateway.change(rpc, request_id="id-1", **fields)).policy == made.policy


async def test_overrides_survive_a_start(gateway: Gateway) -> None:
    await gateway.change("SetOverrides", overrides={"ann": "stable"})
    assert (await gateway.store.releases())["iris"].policy.overrides == {"ann": "stable"}


async def test_every_change_is_in_the_audit_log(gateway: Gateway) -> None:
    await gateway.change("SetCanary", version=2, basis_points=1_000, reason="first users", request_id="id-1")
    listed = await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest(parent="models/iris"))
    newest, first = listed.events
    assert (newest.actor, newest.verb, newest.revision) == ("ada", "set-canary", 2)
    assert (newest.reason, newest.request_id) == ("first users", "id-1")
    assert json.loads(newest.after)["policy"]["canaries"] == [{"version": 2, "ranges": [[0, 1000]]}]
    assert (first.actor, first.verb, newest.before) == ("gateway", "register", first.after)
    assert audit.verify(list(reversed(await gateway.store.events(None, 10, None)))) is None


async def test_without_a_name_the_actor_is_the_address(gateway: Gateway) -> None:
    seen = (await gateway.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))).etag
    await gateway.stub.SetCanary(pb.SetCanaryRequest(name=IRIS, etag=seen, version=2, basis_points=1))
    (event,) = (await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1))).events
    assert event.actor.startswith("ipv4:127.0.0.1:")


async def test_audit_pages_follow_each_other_to_the_end(gateway: Gateway) -> None:
    await gateway.releases.register("wine", 1)
    for share in range(1, 7):
        await gateway.change("SetCanary", version=2, basis_points=share)
    request, seen = pb.ListAuditEventsRequest(parent="models/iris", page_size=3), []
    while True:
        page = await gateway.stub.ListAuditEvents(request)
        assert len(page.events) <= 3
        seen += [event.revision for event in page.events]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_a_page_ends_before_it_gets_too_large(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1)
    await gateway.change("SetCanary", version=2, basis_points=1)
    page = await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest())
    assert [event.revision for event in page.events] == [2]
    last = await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest(page_token=page.next_page_token))
    assert [event.revision for event in last.events] == [1]
    assert last.next_page_token == ""


async def test_a_retry_gets_the_first_answer(gateway: Gateway) -> None:
    seen = (await gateway.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))).etag
    ask: dict[str, Any] = {"etag": seen, "request_id": "id-1", "version": 2}
    first = await gateway.change("SetCanary", basis_points=10, **ask)
    assert await gateway.change("SetCanary", basis_points=10, **ask) == first
    await fails(gateway.change("SetCanary", basis_points=11, **ask), grpc.StatusCode.INVALID_ARGUMENT, "id-1 was used")


@pytest.mark.parametrize(
    ("rpc", "fields", "code", "details"),
    [
        ("SetCanary", {"version": 2, "basis_points": 1, "etag": ""}, "INVALID_ARGUMENT", "needs the etag"),
        ("SetCanary", {"version": 2, "basis_points": 1, "etag": '"9-0"'}, "ABORTED", "read it again"),
        ("SetCanary", {"version": 2, "basis_points": 10_001}, "INVALID_ARGUMENT", "basis_points must be 1 to 10000"),
        ("SetCanary", {"version": 0, "basis_points": 1}, "INVALID_ARGUMENT", "version must be a positive integer"),
        ("SetCanary", {"version": 1, "basis_points": 1}, "FAILED_PRECONDITION", "cannot be its own canary"),
        ("SetCanary", {"version": 10, "basis_points": 1}, "NOT_FOUND", "no version 10"),
        ("SetShadow", {"version": 2, "rate": 2.0}, "INVALID_ARGUMENT", "rate must be"),
        ("SetShadow", {"version": 8, "rate": 1.0}, "FAILED_PRECONDITION", "cannot be loaded"),
        ("RemoveShadow", {"version": 2}, "FAILED_PRECONDITION", "no shadow"),
        ("Flip", {}, "FAILED_PRECONDITION", "no standby"),
        ("Rollback", {}, "FAILED_PRECONDITION", "nothing to roll back to"),
        ("Flip", {"name": "models/wine/release"}, "NOT_FOUND", "no model wine"),
        ("Flip", {"name": "iris"}, "INVALID_ARGUMENT", "name must be models/{model}/release, not 'iris'"),
        ("Flip", {"reason": "x" * 1_001}, "INVALID_ARGUMENT", "reason has 1001 characters"),
    ],
)
async def test_what_is_wrong_is_said_and_changes_nothing(
    gateway: Gateway, rpc: str, fields: dict[str, Any], code: str, details: str
) -> None:
    gateway.fleet.broken.add(8)
    await fails(gateway.change(rpc, **fields), grpc.StatusCode[code], details)
    assert gateway.releases.get("iris").revision == 1


@pytest.mark.parametrize(
    ("call", "code", "details"),
    [
        (lambda stub: stub.GetRelease(pb.GetReleaseRequest()), "INVALID_ARGUMENT", "name must be"),
        (lambda stub: stub.GetRelease(pb.GetReleaseRequest(name="models/x/release")), "NOT_FOUND", "no model x"),
        (lambda stub: stub.ListVersions(pb.ListVersionsRequest(parent="x")), "INVALID_ARGUMENT", "parent must be"),
        (lambda stub: stub.ListVersions(pb.ListVersionsRequest(parent="models/x")), "NOT_FOUND", "no model x"),
        (lambda stub: stub.ListStatistics(pb.ListStatisticsRequest(parent="x")), "INVALID_ARGUMENT", "parent must be"),
        (lambda stub: stub.ListStatistics(pb.ListStatisticsRequest(parent="models/x")), "NOT_FOUND", "no model x"),
        (lambda stub: stub.ListAuditEvents(pb.ListAuditEventsRequest(parent="models/x")), "NOT_FOUND", "no model x"),
        (lambda stub: stub.ListAuditEvents(pb.ListAuditEventsRequest(page_size=-1)), "INVALID_ARGUMENT", "negative"),
        (
            lambda stub: stub.ListAuditEvents(pb.ListAuditEventsRequest(page_token="x")),
            "INVALID_ARGUMENT",
            "page_token is not from this list",
        ),
        (lambda stub: stub.WatchReleases(pb.WatchReleasesRequest(name="x")).read(), "INVALID_ARGUMENT", "name must be"),
        (
            lambda stub: stub.WatchReleases(pb.WatchReleasesRequest(after_sequence=9)).read(),
            "OUT_OF_RANGE",
            "there is no change 9 yet, the newest is 1",
        ),
        (lambda stub: stub.GetVersion(pb.GetVersionRequest(name="models/iris")), "INVALID_ARGUMENT", "name must be"),
        (lambda stub: stub.ListReleases(pb.ListReleasesRequest(page_token="x")), "INVALID_ARGUMENT", "page_token is"),
        (lambda stub: stub.ListVersions(pb.ListVersionsRequest(page_size=-1)), "INVALID_ARGUMENT", "negative"),
        (lambda stub: stub.ListRevisions(pb.ListRevisionsRequest(name="models/x/release")), "NOT_FOUND", "no model x"),
    ],
)
async def test_bad_questions(gateway: Gateway, call: Callable[[Any], Any], code: str, details: str) -> None:
    await fails(call(gateway.stub), grpc.StatusCode[code], details)


async def test_a_change_that_is_not_served_yet_is_unavailable_and_kept(gateway: Gateway) -> None:
    gateway.fleet.failure = NotReady("proxy 1 does not answer")
    await fails(
        gateway.change("SetCanary", version=2, basis_points=1),
        grpc.StatusCode.UNAVAILABLE,
        "the change of iris is kept (revision 2) and will be served as soon as the proxies answer: proxy 1",
    )


async def test_a_surprise_is_internal_and_only_the_log_tells_it(gateway: Gateway) -> None:
    def statuses() -> list[Any]:
        raise KeyError("secret")

    gateway.fleet.statuses = statuses  # type: ignore[method-assign]  # a fleet with a bug
    with capture_logs() as logs:
        await fails(
            gateway.stub.ListVersions(pb.ListVersionsRequest()), grpc.StatusCode.INTERNAL, "internal error, see the log"
        )
    assert logs[0]["method"] == "/cutover.admin.v1.Admin/ListVersions"


async def test_a_caller_whose_deadline_passes_leaves_a_whole_change(gateway: Gateway) -> None:
    gateway.fleet.may_serve.clear()
    gateway.fleet.serving.clear()
    seen = (await gateway.stub.GetRelease(pb.GetReleaseRequest(name=IRIS))).etag
    call = gateway.stub.SetCanary(pb.SetCanaryRequest(name=IRIS, etag=seen, version=2, basis_points=1))
    await gateway.fleet.serving.wait()
    call.cancel()
    gateway.fleet.has_served.clear()
    gateway.fleet.may_serve.set()
    await gateway.fleet.has_served.wait()
    assert gateway.fleet.served[-1]["iris"].revision == 2
    assert (await gateway.change("RemoveCanary", version=2)).revision == 3


async def test_a_watch_begins_with_the_present(gateway: Gateway) -> None:
    await gateway.releases.register("wine", 1)
    one = gateway.stub.WatchReleases(pb.WatchReleasesRequest(name=IRIS))
    every = gateway.stub.WatchReleases(pb.WatchReleasesRequest())
    assert (await one.read()).revision == 1
    assert [(await every.read()).model for _ in range(2)] == ["iris", "wine"]
    changed = await gateway.change("SetCanary", version=2, basis_points=1)
    assert await one.read() == changed
    assert await every.read() == changed
    one.cancel()
    every.cancel()


async def test_watches_end_when_the_gateway_does(gateway: Gateway) -> None:
    watch = gateway.stub.WatchReleases(pb.WatchReleasesRequest())
    await watch.read()
    await gateway.releases.close()
    assert await watch.read() is grpc.aio.EOF


async def test_watches_cannot_take_all_calls(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHES", 1)
    first = gateway.stub.WatchReleases(pb.WatchReleasesRequest())
    await first.read()
    second = gateway.stub.WatchReleases(pb.WatchReleasesRequest())
    await fails(second.read(), grpc.StatusCode.RESOURCE_EXHAUSTED, "1 clients watch already")
    assert ("grpc-retry-pushback-ms", "5000") in list(await second.trailing_metadata())
    first.cancel()


async def test_versions_have_roles_and_problems_are_told(gateway: Gateway) -> None:
    gateway.fleet.known = [status("iris", 1), status("iris", 2, "failed"), status("wine", 1, "found")]
    gateway.fleet.found_problems = ["iris/latest: not an integer; name version folders 1, 2, 3"]
    await gateway.change("SetShadow", version=2, rate=1.0)
    every = await gateway.stub.ListVersions(pb.ListVersionsRequest())
    assert [(found.name, list(found.roles)) for found in every.versions] == [
        ("models/iris/versions/1", ["stable"]),
        ("models/iris/versions/2", ["shadow"]),
        ("models/wine/versions/1", []),
    ]
    assert list(every.problems) == gateway.fleet.found_problems
    wine = await gateway.stub.ListVersions(pb.ListVersionsRequest(parent="models/wine"))
    assert [(found.model, found.state) for found in wine.versions] == [("wine", pb.Version.FOUND)]
    assert not wine.problems


async def test_a_model_that_is_only_a_folder_is_known_and_has_nothing_to_tell(gateway: Gateway) -> None:
    gateway.fleet.known = [status("wine", 1, "failed")]
    assert not (await gateway.stub.ListStatistics(pb.ListStatisticsRequest(parent="models/wine"))).statistics
    assert not (await gateway.stub.ListAuditEvents(pb.ListAuditEventsRequest(parent="models/wine"))).events


async def test_statistics(gateway: Gateway) -> None:
    gateway.statistics.series["iris", 1, "stable"] = SeriesTotals(codes={0: 5})
    gateway.statistics.shadows["iris", 2] = ShadowTotals(copies=5, compared=5, agreed=4)
    gateway.statistics.series["wine", 1, "stable"] = SeriesTotals(codes={0: 1})
    listed = await gateway.stub.ListStatistics(pb.ListStatisticsRequest(parent="models/iris"))
    assert [(found.version, found.arm, dict(found.requests)) for found in listed.statistics] == [
        (1, "stable", {"OK": 5}),
        (2, "shadow", {"OK": 5}),
    ]
    assert len((await gateway.stub.ListStatistics(pb.ListStatisticsRequest())).statistics) == 3


async def test_a_request_above_the_limit_is_refused(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.change("Flip", reason="x" * (2 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_store_that_is_not_shared_has_no_gateways(gateway: Gateway) -> None:
    assert not (await gateway.stub.ListGateways(pb.ListGatewaysRequest())).gateways
    fencing = gateway.stub.FenceGateway(pb.FenceGatewayRequest(name="gateways/b", reason="dead"))
    await fails(fencing, grpc.StatusCode.NOT_FOUND, "no other gateway shares this one's store")


async def test_the_gateways_of_a_shared_store_are_listed_and_fenced() -> None:
    store = SharedStore()
    for name in ("a", "b"):
        await store.members.join(name, "1", Report(applied_sequence=3))
    clock = Clock()
    peers = Peers(store.members, "a", lambda: 7, clock)
    fleet = FakeFleet()
    service = AdminService(Releases(store, fleet, lambda: 7, peers), store, fleet, Statistics(), Gateways(peers))
    server, port = await start_admin(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = AdminStub(channel)
        listed = (await stub.ListGateways(pb.ListGatewaysRequest())).gateways
        assert [(one.gateway, one.answering, one.silent) for one in listed] == [("a", True, False), ("b", False, False)]
        request = pb.FenceGatewayRequest(name="gateways/b", reason="its machine is off")
        await fails(stub.FenceGateway(request), grpc.StatusCode.FAILED_PRECONDITION, "gateway b lives")
        clock.now_s += 60
        await stub.FenceGateway(request, metadata=(("cutover-actor", "ada"),))
        (event,) = (await stub.ListAuditEvents(pb.ListAuditEventsRequest())).events
        assert (event.kind, event.verb, event.actor) == ("access", "fence-gateway", "ada")
        assert [one.gateway for one in (await stub.ListGateways(pb.ListGatewaysRequest())).gateways] == ["a"]
    await server.stop(None)
    await peers.close()
