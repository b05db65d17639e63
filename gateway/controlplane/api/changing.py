"""Changes of a release: every RPC is a command, an etag, a reason and a request id."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Protocol

from gateway.controlplane.api.carrying import ChangeRequest, carry_out
from gateway.controlplane.commands import (
    Abort,
    Command,
    Flip,
    Pause,
    PrepareStandby,
    Promote,
    Register,
    RemoveCanary,
    RemoveHoldout,
    RemoveShadow,
    Resume,
    Rollback,
    SetCanary,
    SetHoldout,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from protos import admin_pb2 as pb


class NamedRequest(ChangeRequest, Protocol):
    """Which release is to be changed."""

    @property
    def name(self) -> str: ...


class Changing:
    """Changes releases."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

    async def RegisterModel(self, request: pb.RegisterModelRequest, context: Context) -> pb.Release:
        return await self._change(request, Register(request.version), context)

    async def SetShadow(self, request: pb.SetShadowRequest, context: Context) -> pb.Release:
        return await self._change(request, SetShadow(request.version, request.rate), context)

    async def RemoveShadow(self, request: pb.RemoveShadowRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveShadow(request.version), context)

    async def SetCanary(self, request: pb.SetCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, SetCanary(request.version, request.basis_points), context)

    async def RemoveCanary(self, request: pb.RemoveCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveCanary(request.version), context)

    async def SetOverrides(self, request: pb.SetOverridesRequest, context: Context) -> pb.Release:
        return await self._change(request, SetOverrides(dict(request.overrides), tuple(request.remove)), context)

    async def PrepareStandby(self, request: pb.PrepareStandbyRequest, context: Context) -> pb.Release:
        return await self._change(request, PrepareStandby(request.version), context)

    async def Flip(self, request: pb.FlipRequest, context: Context) -> pb.Release:
        return await self._change(request, Flip(), context)

    async def PromoteCanary(self, request: pb.PromoteCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, Promote(request.version), context)

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.Release:
        return await self._change(request, Rollback(request.revision), context)

    async def AbortRelease(self, request: pb.AbortReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Abort(), context)

    async def PauseRelease(self, request: pb.PauseReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Pause(), context)

    async def ResumeRelease(self, request: pb.ResumeReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Resume(), context)

    async def SetHoldout(self, request: pb.SetHoldoutRequest, context: Context) -> pb.Release:
        return await self._change(request, SetHoldout(request.basis_points), context)

    async def RemoveHoldout(self, request: pb.RemoveHoldoutRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveHoldout(), context)

    async def _change(self, request: NamedRequest, command: Command, context: Context) -> pb.Release:
        return await carry_out(self._releases, request.name, command, request, context)
