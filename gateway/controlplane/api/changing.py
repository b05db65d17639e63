"""Changes of a release: every RPC is a command, an etag, a reason and a request id."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Protocol

from gateway.controlplane import names
from gateway.controlplane.api.caller import actor
from gateway.controlplane.commands import (
    Abort,
    Command,
    Flip,
    Pause,
    PrepareStandby,
    Promote,
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
from gateway.controlplane.messages import other_state_message, release_message
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from gateway.errors import Refused
from protos import admin_pb2 as pb


class ChangeRequest(Protocol):
    """What the request of every change has."""

    @property
    def name(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def validate_only(self) -> bool: ...


class Changing:
    """Changes releases."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

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

    async def _change(self, request: ChangeRequest, command: Command, context: Context) -> pb.Release:
        """Carries the command out, or says what would become of it."""
        model = names.model_of_release(request.name)
        try:
            if request.validate_only:
                return await self._preview(model, command, request.etag)
            return await self._carry_out(model, command, request, context)
        except Refused as refused:
            refused.subject = request.name
            raise

    async def _preview(self, model: str, command: Command, etag: str) -> pb.Release:
        release = await self._releases.preview(model, command, etag=etag or None)
        return release_message(release) if release == self._releases.get(model) else other_state_message(release)

    async def _carry_out(self, model: str, command: Command, request: ChangeRequest, context: Context) -> pb.Release:
        changed = await self._releases.change(
            model,
            command,
            etag=request.etag or None,
            request_id=request.request_id,
            reason=request.reason,
            actor=actor(context),
        )
        return release_message(changed.release, changed.applied)
