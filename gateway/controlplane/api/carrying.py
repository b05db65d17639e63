"""What every change of a release has in common, whichever RPC asks for it."""

from typing import Protocol

from gateway.controlplane import names
from gateway.controlplane.api.caller import actor
from gateway.controlplane.commands import Command
from gateway.controlplane.messages import other_state_message, release_message
from gateway.controlplane.releases import Releases, check_texts
from gateway.controlplane.statuses import Context
from gateway.errors import Refused
from protos import admin_pb2 as pb


class ChangeRequest(Protocol):
    """What the request of every change says besides."""

    @property
    def etag(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def validate_only(self) -> bool: ...


async def carry_out(
    releases: Releases, name: str, command: Command, request: ChangeRequest, context: Context
) -> pb.Release:
    """The release `name` after the command, or as it would be if the request is only to be validated."""
    model, etag = names.model_of_release(name), request.etag or None
    try:
        if request.validate_only:
            check_texts(request.request_id, request.reason, actor(context))
            made = await releases.preview(model, command, etag=etag)
            return release_message(made) if made.sequence else other_state_message(made)  # a new one has none yet
        changed = await releases.change(
            model, command, etag=etag, request_id=request.request_id, reason=request.reason, actor=actor(context)
        )
    except Refused as refused:
        refused.subject = name
        raise
    return release_message(changed.release, changed.applied)
