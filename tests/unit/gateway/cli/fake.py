# ruff: noqa: N802 - methods are named as in the proto
"""A gateway's admin API in this process, as simple as the proto allows, and a way to run commands against it."""

import json
import queue
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.longrunning.operations_pb2 import Operation, WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsServicer, add_OperationsServicer_to_server
from google.rpc.status_pb2 import Status

from gateway.cli.root import run
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server


@dataclass(frozen=True)
class Said:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


class FakeAdmin(AdminServicer, OperationsServicer):  # type: ignore[misc]  # without types
    """Keeps releases in memory; changes do what the proto says without asking whether they may."""

    def __init__(self) -> None:
        self.releases = {"digits": release("digits", 6, stable=1)}
        self.versions = [version("digits", 1, ["stable"]), version("digits", 2, ["canary"])]
        self.problems: list[str] = []
        self.statistics: list[pb.Statistics] = []
        self.proxies: list[pb.Proxy] = []
        self.overrides: dict[str, str] = {}
        self.events: list[pb.AuditEvent] = []
        self.backup: list[bytes] = []
        self.gateways: list[pb.Gateway] = []
        self.hidden_events = 0
        self.hidden: set[int] = set()
        """The sequences of events that are counted on their pages only."""
        self.tokens: list[pb.Token] = []
        self.requests: list[Any] = []
        self.watched: list[pb.WatchReleasesRequest] = []
        self.waits: list[Any] = []
        """For operations."""
        self.metadata: dict[str, str] = {}
        self.error: tuple[grpc.StatusCode, str] | None = None
        """Fails every change."""
        self.changed: queue.SimpleQueue[pb.Release | None] = queue.SimpleQueue()
        """What a watch is to see next; None ends it."""
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def GetRelease(self, request: pb.GetReleaseRequest, context: grpc.ServicerContext) -> pb.Release:
        return self._find(request.name, context)

    def Backup(self, request: pb.BackupRequest, context: grpc.ServicerContext) -> Iterator[pb.BackupResponse]:
        for lines in self.backup:
            yield pb.BackupResponse(lines=lines)

    def ListReleases(self, request: pb.ListReleasesRequest, context: grpc.ServicerContext) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=self.releases.values())

    def WatchReleases(self, request: pb.WatchReleasesRequest, context: grpc.ServicerContext) -> Iterator[pb.Release]:
        self.watched.append(request)
        yield from [found for found in self.releases.values() if found.sequence > request.after_sequence]
        context.add_callback(lambda: self.changed.put(None))
        while (changed := self.changed.get()) is not None:
            self.releases[changed.model] = changed
            yield changed

    def ListRevisions(
        self, request: pb.ListRevisionsRequest, context: grpc.ServicerContext
    ) -> pb.ListRevisionsResponse:
        newest = self._find(request.name, context)
        start = int(request.page_token or newest.revision)
        # Never a whole page, so that clients have to follow tokens.
        stop = max(0, start - min(request.page_size, 2))
        kept = [release(newest.model, number, stable=1) for number in range(start, stop, -1)]
        return pb.ListRevisionsResponse(revisions=kept, next_page_token=str(stop or ""))

    def GetVersion(self, request: pb.GetVersionRequest, context: grpc.ServicerContext) -> pb.Version:
        for found in self.versions:
            if found.name == request.name:
                return found
        context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")
        raise AssertionError

    def LoadVersion(self, request: pb.LoadVersionRequest, context: grpc.ServicerContext) -> Operation:
        self.requests.append(request)
        return Operation(name="operations/1")

    def WarmVersion(self, request: pb.WarmVersionRequest, context: grpc.ServicerContext) -> Operation:
        self.requests.append(request)
        return Operation(name="operations/1")

    def WaitOperation(self, request: WaitOperationRequest, context: grpc.ServicerContext) -> Operation:
        """The second time it is done."""
        self.waits.append(request)
        if len(self.waits) % 2:
            return Operation(name=request.name)
        if self.error:
            code, text = self.error
            return Operation(name=request.name, done=True, error=Status(code=code.value[0], message=text))
        done = Operation(name=request.name, done=True)
        done.response.Pack(self.versions[-1])
        return done

    def ListVersions(self, request: pb.ListVersionsRequest, context: grpc.ServicerContext) -> pb.ListVersionsResponse:
        found = [one for one in self.versions if request.parent in ("", f"models/{one.model}")]
        return pb.ListVersionsResponse(versions=found, problems=self.problems)

    def ListStatistics(
        self, request: pb.ListStatisticsRequest, context: grpc.ServicerContext
    ) -> pb.ListStatisticsResponse:
        found = [one for one in self.statistics if request.parent in ("", f"models/{one.model}")]
        return pb.ListStatisticsResponse(statistics=found, proxies=self.proxies)

    def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditEventsResponse:
        later = [event for event in self.events if 0 < request.before_sequence <= event.sequence]
        start = int(request.page_token or len(later))
        # Never a whole page, so that clients have to follow tokens.
        stop = start + min(request.page_size, 3)
        token = str(stop) if stop < len(self.events) else ""
        seen = [event for event in self.events[start:stop] if event.sequence not in self.hidden]
        hidden = self.hidden_events + len(self.events[start:stop]) - len(seen)
        return pb.ListAuditEventsResponse(events=seen, next_page_token=token, hidden=hidden)

    def CreateToken(self, request: pb.CreateTokenRequest, context: grpc.ServicerContext) -> pb.CreateTokenResponse:
        self.requests.append(request)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        made = pb.Token(name=f"tokens/{request.token_id}", roles=request.roles, created_by="ada")
        self.tokens.append(made)
        return pb.CreateTokenResponse(token=made, secret=f"cutover_{request.token_id}_hush")

    def ListTokens(self, request: pb.ListTokensRequest, context: grpc.ServicerContext) -> pb.ListTokensResponse:
        start = int(request.page_token or 0)
        token = str(start + 1) if start + 1 < len(self.tokens) else ""
        return pb.ListTokensResponse(tokens=self.tokens[start : start + 1], next_page_token=token)

    def RevokeToken(self, request: pb.RevokeTokenRequest, context: grpc.ServicerContext) -> pb.Token:
        self.requests.append(request)
        (found,) = (one for one in self.tokens if one.name == request.name)
        found.revoke_time.GetCurrentTime()
        return found

    def RegisterModel(self, request: pb.RegisterModelRequest, context: grpc.ServicerContext) -> pb.Release:
        self.requests.append(request)
        if self.error:
            context.abort(*self.error)
        return release(request.name.split("/")[1], 1, request.version)

    def ListGateways(self, request: pb.ListGatewaysRequest, context: grpc.ServicerContext) -> pb.ListGatewaysResponse:
        return pb.ListGatewaysResponse(gateways=self.gateways)

    def FenceGateway(self, request: pb.FenceGatewayRequest, context: grpc.ServicerContext) -> pb.FenceGatewayResponse:
        self.requests.append(request)
        return pb.FenceGatewayResponse()

    def SetShadow(self, request: pb.SetShadowRequest, context: grpc.ServicerContext) -> pb.Release:
        policy = self._changed(request, context)
        policy.shadows.add(version=request.version, rate=request.rate)
        return self.releases["digits"]

    def RemoveShadow(self, request: pb.RemoveShadowRequest, context: grpc.ServicerContext) -> pb.Release:
        del self._changed(request, context).shadows[:]
        return self.releases["digits"]

    def SetCanary(self, request: pb.SetCanaryRequest, context: grpc.ServicerContext) -> pb.Release:
        owned = pb.BucketRange(start=0, end=request.basis_points)
        policy = self._changed(request, context)
        policy.canaries.add(version=request.version, basis_points=request.basis_points, ranges=[owned])
        return self.releases["digits"]

    def RemoveCanary(self, request: pb.RemoveCanaryRequest, context: grpc.ServicerContext) -> pb.Release:
        del self._changed(request, context).canaries[:]
        return self.releases["digits"]

    def ListOverrides(
        self, request: pb.ListOverridesRequest, context: grpc.ServicerContext
    ) -> pb.ListOverridesResponse:
        release = self._find(request.name, context)
        found = sorted(unit for unit in request.units or self.overrides if unit in self.overrides)
        found = [unit for unit in found if unit > request.page_token]
        page = [pb.Override(unit=unit, arm=self.overrides[unit]) for unit in found[:3]]
        token = page[-1].unit if len(found) > 3 else ""
        return pb.ListOverridesResponse(overrides=page, revision=release.revision, next_page_token=token)

    def SetOverrides(self, request: pb.SetOverridesRequest, context: grpc.ServicerContext) -> pb.Release:
        policy = self._changed(request, context)
        self.overrides |= dict(request.overrides)
        for unit in request.remove:
            self.overrides.pop(unit, None)
        policy.override_count = len(self.overrides)
        return self.releases["digits"]

    def PrepareStandby(self, request: pb.PrepareStandbyRequest, context: grpc.ServicerContext) -> pb.Release:
        self._changed(request, context).standby_version = request.version
        return self.releases["digits"]

    def Flip(self, request: pb.FlipRequest, context: grpc.ServicerContext) -> pb.Release:
        policy = self._changed(request, context)
        self.releases["digits"].rollback_policy.CopyFrom(policy)
        policy.CopyFrom(pb.Policy(stable_version=2))
        return self.releases["digits"]

    def PromoteCanary(self, request: pb.PromoteCanaryRequest, context: grpc.ServicerContext) -> pb.Release:
        policy = self._changed(request, context)
        self.releases["digits"].rollback_policy.CopyFrom(policy)
        policy.CopyFrom(pb.Policy(stable_version=request.version))
        return self.releases["digits"]

    def AbortRelease(self, request: pb.AbortReleaseRequest, context: grpc.ServicerContext) -> pb.Release:
        del self._changed(request, context).canaries[:]
        return self.releases["digits"]

    def PauseRelease(self, request: pb.PauseReleaseRequest, context: grpc.ServicerContext) -> pb.Release:
        self._changed(request, context)
        self.releases["digits"].paused = True
        return self.releases["digits"]

    def ResumeRelease(self, request: pb.ResumeReleaseRequest, context: grpc.ServicerContext) -> pb.Release:
        self._changed(request, context)
        self.releases["digits"].paused = False
        return self.releases["digits"]

    def SetHoldout(self, request: pb.SetHoldoutRequest, context: grpc.ServicerContext) -> pb.Release:
        owned = pb.BucketRange(start=0, end=request.basis_points)
        holdout = pb.Holdout(version=1, basis_points=request.basis_points, ranges=[owned], salt="digits/holdout/1")
        self._changed(request, context).holdout.CopyFrom(holdout)
        return self.releases["digits"]

    def RemoveHoldout(self, request: pb.RemoveHoldoutRequest, context: grpc.ServicerContext) -> pb.Release:
        self._changed(request, context).ClearField("holdout")
        return self.releases["digits"]

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.Release:
        policy = self._changed(request, context)
        policy.CopyFrom(self.releases["digits"].rollback_policy)
        self.releases["digits"].ClearField("rollback_policy")
        return self.releases["digits"]

    def UpdateRelease(self, request: pb.UpdateReleaseRequest, context: grpc.ServicerContext) -> pb.Release:
        before = pb.Release()
        before.CopyFrom(self._find(request.release.name, context))
        policy = self._changed(request, context, request.release.name)
        policy.CopyFrom(request.release.policy)
        if request.validate_only:
            would, self.releases["digits"] = self.releases["digits"], before
            return would
        if request.HasField("override_list"):
            self.overrides = dict(request.override_list.overrides)
        policy.override_count = len(self.overrides)
        return self.releases["digits"]

    def _find(self, name: str, context: grpc.ServicerContext) -> pb.Release:
        found = self.releases.get(name.removeprefix("models/").removesuffix("/release"))
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")
        assert found is not None
        return found

    def _changed(self, request: Any, context: grpc.ServicerContext, name: str = "") -> pb.Policy:
        self.requests.append(request)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        found = self._find(name or request.name, context)
        if self.error:
            context.abort(*self.error)
        found.revision += 1
        found.etag = f'"{found.revision}-abcdef01"'
        return found.policy


def release(model: str, revision: int, stable: int, **policy: Any) -> pb.Release:
    """A release as the admin API sends it."""
    return pb.Release(
        name=f"models/{model}/release",
        model=model,
        revision=revision,
        etag=f'"{revision}-abcdef01"',
        policy=pb.Policy(stable_version=stable, **policy),
        sequence=revision,
    )


def version(model: str, number: int, roles: list[str], **fields: Any) -> pb.Version:
    """A version that is ready unless said otherwise."""
    said: dict[str, Any] = {
        "state": pb.Version.READY,
        "instances": 2,
        "instances_ready": 2,
        "digest": "f" * 64,
    } | fields
    return pb.Version(name=f"models/{model}/versions/{number}", model=model, version=number, roles=roles, **said)


class Shell:
    """Runs commands in this process, against the fake."""

    def __init__(self, admin: FakeAdmin, capsys: pytest.CaptureFixture[str]) -> None:
        self.admin = admin
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        """A command that talks to the fake."""
        return self.local(*arguments, "--admin", self.admin.address)

    def local(self, *arguments: str) -> Said:
        """A command as given."""
        self._capsys.readouterr()
        code = run(arguments)
        out, err = self._capsys.readouterr()
        return Said(code, out, err)


def serve(admin: FakeAdmin) -> Generator[FakeAdmin]:
    """Serves the fake on a free port while the caller holds it."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_AdminServicer_to_server(admin, server)
    add_OperationsServicer_to_server(admin, server)
    admin.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield admin
    finally:
        admin.changed.put(None)
        server.stop(None).wait()
