"""Who may do what with the admin API, asked by a real client; only the fleet is a fake."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub
from structlog.testing import capture_logs

from gateway.controlplane.access import guard
from gateway.controlplane.access.door import Door, certificates
from gateway.controlplane.access.guard import Guard
from gateway.controlplane.access.keeper import Access, Keeper
from gateway.controlplane.access.needs import ADMIN, NEEDS
from gateway.controlplane.access.roles import ALL, Role, Roles
from gateway.controlplane.admin import AdminService, start_admin
from gateway.controlplane.api.tokens import Tokens
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.observe.statistics import SeriesTotals, Statistics
from gateway.transport.tls import TlsFiles
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests.certificates import Authority
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet, status

MODELS = ("iris", "wine")
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


class House:
    """A control plane with two models and a guarded door; `way` gives the channel of a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = 1_700_000_000_000
        self.store = SqliteStore(folder / "cutover.db")
        self.fleet = FakeFleet()
        self.fleet.known = [status(model, 1) for model in MODELS]
        self.releases = Releases(self.store, self.fleet, self.clock_ms)
        self.statistics = Statistics()
        self.keeper: Keeper
        self.address = ""
        self.secrets: list[str] = []
        self.server: grpc.aio.Server

    def clock_ms(self) -> int:
        return self.now_ms

    async def open(self, access: Access, files: TlsFiles | None = None) -> None:
        self.keeper = Keeper(self.store, access, self.clock_ms, self.folder / "tokens.json")
        await self.keeper.start()
        self.certificates = certificates(files)
        rooms = Tokens(self.keeper, self.clock_ms)
        self.service = AdminService(self.releases, self.store, self.fleet, self.statistics, rooms)
        self.door = Door(Guard(self.keeper, self.service.target_of), self.certificates, self.folder / "admin.sock")
        self.server, port = await start_admin(self.service, "127.0.0.1", 0, self.door)
        self.address = f"localhost:{port}"

    async def token(self, token_id: str, owner: "Client", ttl_s: int = 0, **roles: pb.Role) -> "Client":
        """Has a token made; roles by model, `all` for all of them."""
        request = pb.CreateTokenRequest(token_id=token_id)
        for model, role in roles.items():
            request.roles[ALL if model == "all" else model] = role
        if ttl_s:
            request.ttl.FromSeconds(ttl_s)
        secret = (await owner.call("CreateToken", request)).secret
        self.secrets.append(secret)
        return Client(owner.channel, secret)

    async def events(self, kind: str) -> list[Any]:
        return [event for event in await self.store.events(None, 1_000, None) if event.kind == kind]


class Client:
    """Calls with a token, or without."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        self.channel = channel
        self.stub: Any = AdminStub(channel)
        self.operations: Any = OperationsStub(channel)
        self.metadata = (("cutover-actor", "ada@vm"), *((("authorization", f"Bearer {token}"),) if token else ()))

    def call(self, rpc: str, request: Any) -> Any:
        return getattr(self.stub, rpc)(request, metadata=self.metadata, timeout=20)

    def operation(self, rpc: str, request: Any) -> Any:
        """Calls the service of operations."""
        return getattr(self.operations, rpc)(request, metadata=self.metadata, timeout=20)

    def bare(self, method: str) -> Any:
        """An empty message to any method, answered once."""
        asking: Any = self.channel.unary_unary(method)
        return asking(b"", timeout=20)

    async def get(self, model: str = "iris") -> pb.Release:
        release: pb.Release = await self.call("GetRelease", pb.GetReleaseRequest(name=f"models/{model}/release"))
        return release

    async def shadow(self, model: str, etag: str) -> pb.Release:
        name = f"models/{model}/release"
        changed: pb.Release = await self.call("SetShadow", pb.SetShadowRequest(name=name, etag=etag, version=2, rate=1))
        return changed


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.store.open()
    await made.releases.start()
    for model in MODELS:
        await made.releases.register(model, 1)
    yield made
    await made.server.stop(None)
    made.door.close()
    await made.service.close()
    await made.keeper.close()
    await made.releases.close()
    await made.store.close()


@pytest.fixture
async def local(house: House) -> AsyncIterator[Client]:
    """A client of the port in clear, on a gateway where nobody has been given anything."""
    await house.open(Access())
    async with grpc.aio.insecure_channel(house.address) as channel:
        yield Client(channel)


async def refused(calling: Any, code: grpc.StatusCode, said: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    assert (caught.value.code(), said in (caught.value.details() or "")) == (code, True), caught.value.details()


async def test_everybody_is_owner_until_the_first_token(house: House, local: Client) -> None:
    assert (await local.get()).revision == 1
    viewer = pb.CreateTokenRequest(token_id="look", roles={ALL: pb.VIEWER})
    await refused(local.call("CreateToken", viewer), grpc.StatusCode.FAILED_PRECONDITION, "one of an owner of all")
    boss = await house.token("boss", local, all=pb.OWNER)
    await refused(local.get(), UNAUTHENTICATED, "send a token")
    assert (await boss.get()).revision == 1
    (event,) = await house.events("access")
    assert (event.verb, event.actor, json.loads(event.after)["roles"]) == ("create-token", "ada@vm", {"*": "owner"})


async def test_each_may_do_what_the_role_says(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, all=pb.VIEWER)
    operator = await house.token("ops", boss, iris=pb.OPERATOR)
    etag = (await viewer.get()).etag
    await refused(viewer.shadow("iris", etag), DENIED, "SetShadow needs operator of iris; token:look has viewer")
    assert (await operator.shadow("iris", etag)).revision == 2
    wine = (await viewer.get("wine")).etag
    await refused(operator.shadow("wine", wine), DENIED, "needs operator of wine; token:ops has operator of iris")
    await refused(operator.get("wine"), DENIED, "needs viewer of wine")
    for client in (viewer, operator):
        making = pb.CreateTokenRequest(token_id="more", roles={"iris": pb.VIEWER})
        await refused(client.call("CreateToken", making), DENIED, "CreateToken needs owner of a model")
        await refused(client.call("RevokeToken", pb.RevokeTokenRequest(name="tokens/boss")), DENIED, "needs owner")
    changes = await house.events("change")
    assert changes[0].actor == "token:ops (ada@vm)"


async def test_an_owner_of_one_model_gives_and_takes_that_one(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    owner = await house.token("iris-owner", boss, iris=pb.OWNER)
    await house.token("iris-ops", owner, iris=pb.OPERATOR)
    await house.token("wine-ops", boss, wine=pb.OPERATOR)
    for roles in ({"wine": pb.VIEWER}, {ALL: pb.VIEWER}, {"iris": pb.VIEWER, "wine": pb.VIEWER}):
        making = pb.CreateTokenRequest(token_id="x", roles=roles)
        await refused(owner.call("CreateToken", making), DENIED, "needs an owner of all that")
    found = (await owner.call("ListTokens", pb.ListTokensRequest())).tokens
    assert [one.name for one in found] == ["tokens/iris-ops", "tokens/iris-owner"]
    assert len((await boss.call("ListTokens", pb.ListTokensRequest())).tokens) == 4
    await refused(owner.call("RevokeToken", pb.RevokeTokenRequest(name="tokens/wine-ops")), DENIED, "an owner of all")
    await house.keeper.close()  # which tells of those that were only counted
    (counted, first) = await house.events("refusal")
    assert (first.actor, first.verb) == ("token:iris-owner", "create-token")
    assert first.reason == "a token with viewer of wine needs an owner of all that; the caller has owner of iris"
    assert (counted.verb, counted.reason[:15]) == ("revoke-token", "3 more refusals")
    revoking = pb.RevokeTokenRequest(name="tokens/iris-ops", reason="lost")
    assert (await owner.call("RevokeToken", revoking)).HasField("revoke_time")


async def test_a_token_ends_when_it_expires_or_is_revoked(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    short = await house.token("short", boss, ttl_s=60, iris=pb.VIEWER)
    lost = await house.token("lost", boss, iris=pb.VIEWER)
    assert (await short.get()).revision == (await lost.get()).revision == 1
    await boss.call("RevokeToken", pb.RevokeTokenRequest(name="tokens/lost"))
    await refused(lost.get(), UNAUTHENTICATED, "token lost was revoked")
    house.now_ms += 60_000
    await refused(short.get(), UNAUTHENTICATED, "token short has expired")
    await refused(Client(local.channel, "cutover_boss_guess").get(), UNAUTHENTICATED, "not known here")
    again = pb.CreateTokenRequest(token_id="lost", roles={"iris": pb.VIEWER})
    await refused(boss.call("CreateToken", again), grpc.StatusCode.ALREADY_EXISTS, "there is, or was, a token lost")
    ending = pb.RevokeTokenRequest(name="tokens/boss")
    await refused(boss.call("RevokeToken", ending), grpc.StatusCode.FAILED_PRECONDITION, "the last owner of all models")


async def test_owners_who_end_each_other_at_once_leave_one(house: House, local: Client) -> None:
    names = ["boss", "ada", "bob"]
    owners = [await house.token("boss", local, all=pb.OWNER)]
    owners += [await house.token(name, owners[0], all=pb.OWNER) for name in names[1:]]
    ending = [pb.RevokeTokenRequest(name=f"tokens/{name}") for name in (*names[1:], names[0])]
    codes = await asyncio.gather(
        *(ended(who.call("RevokeToken", whom)) for who, whom in zip(owners, ending, strict=True))
    )
    assert any(code != grpc.StatusCode.OK for code in codes)
    assert any(not token.revoked_ms for token in await house.store.tokens())


async def test_lists_have_what_may_be_seen(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, iris=pb.VIEWER)
    for model in MODELS:
        house.statistics.series[model, 1, "stable"] = SeriesTotals()
    lists = {
        "ListReleases": (pb.ListReleasesRequest(), "releases"),
        "ListVersions": (pb.ListVersionsRequest(), "versions"),
        "ListStatistics": (pb.ListStatisticsRequest(), "statistics"),
        "ListAuditEvents": (pb.ListAuditEventsRequest(), "events"),
    }
    for rpc, (request, field) in lists.items():
        assert {one.model for one in getattr(await boss.call(rpc, request), field)} >= set(MODELS)
        seen = await viewer.call(rpc, request)
        assert {one.model for one in getattr(seen, field)} == {"iris"}, rpc
    assert seen.hidden == 2
    asked = pb.ListVersionsRequest(parent="models/wine")
    await refused(viewer.call("ListVersions", asked), DENIED, "ListVersions needs viewer of wine")


async def test_a_watch_sees_its_models_and_ends_with_its_token(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, iris=pb.VIEWER)
    watch = viewer.call("WatchReleases", pb.WatchReleasesRequest())
    assert (await watch.read()).model == "iris"
    await boss.shadow("wine", (await boss.get("wine")).etag)
    changed = await boss.shadow("iris", (await boss.get()).etag)
    assert (await watch.read()).etag == changed.etag
    await boss.call("RevokeToken", pb.RevokeTokenRequest(name="tokens/look"))
    removing = pb.RemoveShadowRequest(name=changed.name, etag=changed.etag, version=2)
    await boss.call("RemoveShadow", removing)
    await refused(watch.read(), UNAUTHENTICATED, "token look was revoked")


async def test_a_watch_of_what_does_not_change_ends_too(
    house: House, local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LOOK_S", 0.01)
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, ttl_s=1, iris=pb.VIEWER)
    watch = viewer.call("WatchReleases", pb.WatchReleasesRequest())
    assert (await watch.read()).model == "iris"
    house.now_ms += 1_000
    await refused(watch.read(), UNAUTHENTICATED, "token look has expired")


async def test_a_change_that_waits_ends_with_the_token_that_asked_for_it(
    house: House, local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LOOK_S", 0.01)
    boss = await house.token("boss", local, all=pb.OWNER)
    operator = await house.token("ops", boss, iris=pb.OPERATOR)
    etag = (await boss.get()).etag
    house.fleet.may_prepare.clear()
    asking = asyncio.get_running_loop().create_task(operator.shadow("iris", etag))
    await house.fleet.preparing.wait()
    await boss.call("RevokeToken", pb.RevokeTokenRequest(name="tokens/ops"))
    await refused(asking, UNAUTHENTICATED, "token ops was revoked")
    house.fleet.may_prepare.set()
    assert (await boss.get()).etag == etag


async def test_every_rpc_is_guarded(house: House, local: Client) -> None:
    await house.token("boss", local, all=pb.OWNER)
    for method in NEEDS:
        await refused(local.bare(method), UNAUTHENTICATED, "send a token")
    await refused(local.bare(ADMIN + "Nothing"), grpc.StatusCode.UNIMPLEMENTED, "")


async def test_calls_without_their_request_keep_nobody_out(
    house: House, local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "REQUEST_S", 0.05)
    boss = await house.token("boss", local, all=pb.OWNER)

    def begun(client: Client) -> Any:
        asking: Any = client.channel.stream_unary(ADMIN + "GetRelease")
        return asking(metadata=client.metadata, timeout=20)

    await refused(begun(local), UNAUTHENTICATED, "send a token")  # before anything has come
    await refused(begun(boss), grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not come")
    empty: Any = local.channel.stream_unary(ADMIN + "GetRelease")
    await refused(empty(iter(()), metadata=boss.metadata, timeout=20), grpc.StatusCode.INVALID_ARGUMENT, "no request")
    asking: Any = local.channel.unary_unary(ADMIN + "GetRelease")
    for garbage in (b"\xff", b"\0" * 3):
        assert await ended(asking(garbage, metadata=boss.metadata, timeout=20)) == grpc.StatusCode.INTERNAL
    assert (await boss.get()).revision == 1


async def test_operations_are_for_those_who_may_touch_their_model(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, all=pb.VIEWER)
    iris = await house.token("iris", boss, iris=pb.OPERATOR)
    wine = await house.token("wine", boss, wine=pb.OPERATOR)
    loading = pb.LoadVersionRequest(name="models/iris/versions/1")
    await refused(viewer.call("LoadVersion", loading), DENIED, "LoadVersion needs operator of iris")
    name = (await iris.call("LoadVersion", loading)).name
    waiting = operations_pb2.WaitOperationRequest(name=name)
    for client in (iris, viewer):
        assert (await client.operation("WaitOperation", waiting)).done
    await refused(wine.operation("WaitOperation", waiting), DENIED, "WaitOperation needs viewer of iris")
    listing = operations_pb2.ListOperationsRequest()
    for client, count in ((boss, 1), (iris, 1), (wine, 0)):
        assert len((await client.operation("ListOperations", listing)).operations) == count
    deleting = operations_pb2.DeleteOperationRequest(name=name)
    await refused(viewer.operation("DeleteOperation", deleting), DENIED, "needs operator of iris")
    await iris.operation("DeleteOperation", deleting)
    await refused(iris.operation("WaitOperation", waiting), DENIED, "needs viewer of all models")
    await refused(viewer.operation("WaitOperation", waiting), grpc.StatusCode.NOT_FOUND, "no such operation")


async def test_refusals_stand_in_the_log_and_a_flood_is_counted(house: House, local: Client) -> None:
    boss = await house.token("boss", local, all=pb.OWNER)
    viewer = await house.token("look", boss, all=pb.VIEWER)
    etag = (await viewer.get()).etag
    for _ in range(20):
        codes = await asyncio.gather(*(ended(viewer.shadow("iris", etag)) for _ in range(20)))
        assert set(codes) == {DENIED}
    (first,) = await house.events("refusal")
    assert (first.actor, first.verb, first.model, first.revision) == ("token:look", "set-shadow", "iris", 0)
    await asyncio.gather(*(ended(Client(local.channel, f"cutover_x{n}_y").get()) for n in range(100)))
    assert len(await house.events("refusal")) == 2
    await house.keeper.close()
    counted, known = (await house.events("refusal"))[:2]
    assert {counted.reason[:3], known.reason[:3]} == {"399", "99 "}
    assert {counted.actor, known.actor} == {"token:look", "127.0.0.1"}


async def ended(calling: Any) -> grpc.StatusCode:
    try:
        await calling
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_secrets_are_nowhere_but_with_their_holder(house: House, local: Client) -> None:
    with capture_logs() as logs:
        boss = await house.token("boss", local, all=pb.OWNER)
        short = await house.token("short", boss, ttl_s=1, iris=pb.VIEWER)
        house.now_ms += 1_000
        errors = []
        for client in (short, Client(local.channel, house.secrets[0][:-1]), Client(local.channel, "Hush" * 100)):
            try:
                await client.get()
            except grpc.aio.AioRpcError as error:
                errors.append(f"{error.details()} {error.trailing_metadata()}")
    assert len(errors) == 3
    hushed = [secret.split("_", 2)[2][:20] for secret in house.secrets] + ["Hush"]
    listed = str(await boss.call("ListTokens", pb.ListTokensRequest()))
    told = str(logs) + str(errors) + listed + str(await house.store.events(None, 100, None))
    kept = b"".join(file.read_bytes() for file in house.folder.iterdir() if file.is_file())
    for secret in hushed:
        assert secret not in told
        assert secret.encode() not in kept


async def test_certificates_have_what_they_are_granted(house: House, tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.server().write(tmp_path / "server"), authority.write(tmp_path / "ca.crt"))
    grants = {"spiffe://corp/ops": Roles({"iris": Role.OPERATOR}), "unix:": Roles({ALL: Role.OWNER})}
    await house.open(Access(grants, open_port=False), files)
    shown = {
        name: authority.issue(name, uris=(f"spiffe://corp/{name}",), dns=("ignored.example",))
        for name in ("ops", "intern")
    }

    def channel(name: str) -> grpc.aio.Channel:
        one = shown[name]
        return grpc.aio.secure_channel(
            house.address, grpc.ssl_channel_credentials(authority.pem, one.key, one.certificate)
        )

    async with channel("ops") as ops, channel("intern") as intern:
        operator, stranger = Client(ops), Client(intern)
        assert (await operator.shadow("iris", (await operator.get()).etag)).revision == 2
        assert (await house.events("change"))[0].actor == "certificate:spiffe://corp/ops (ada@vm)"
        await refused(operator.get("wine"), DENIED, "certificate:spiffe://corp/ops has operator of iris")
        await refused(stranger.get(), DENIED, "certificate:spiffe://corp/intern has no role")
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/admin.sock") as socket:
            look = await house.token("look", Client(socket), wine=pb.VIEWER)
        assert (await Client(intern, house.secrets[0]).get("wine")).revision == 1
        assert look.channel is socket
    for credentials in (grpc.ssl_channel_credentials(authority.pem), None):  # no certificate, and no TLS
        clear = grpc.aio.insecure_channel(house.address)
        made = grpc.aio.secure_channel(house.address, credentials) if credentials else clear
        async with clear, made:
            await refused(Client(made).get(), grpc.StatusCode.UNAVAILABLE, "")


async def test_a_port_that_asks_for_certificates_is_not_open(house: House, tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.server().write(tmp_path / "server"), authority.write(tmp_path / "ca.crt"))
    await house.open(Access({}, open_port=False), files)
    known = authority.issue("ada")
    credentials = grpc.ssl_channel_credentials(authority.pem, known.key, known.certificate)
    async with grpc.aio.secure_channel(house.address, credentials) as channel:
        await refused(Client(channel).get(), DENIED, "GetRelease needs viewer of iris; certificate:ada has no role")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/admin.sock") as socket:
        assert (await Client(socket).get()).revision == 1


async def test_a_renewed_certificate_is_taken_without_a_restart(house: House, tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    files = TlsFiles(*old.server().write(tmp_path / "server"))
    await house.open(Access(), files)
    new.server().write(tmp_path / "server")
    assert house.certificates is not None
    house.certificates.settle(*house.certificates.look())
    async with grpc.aio.secure_channel(house.address, grpc.ssl_channel_credentials(new.pem)) as channel:
        assert (await Client(channel).get()).revision == 1
