"""A client of the admin API (protos/admin.proto). Every error it raises is a Failure fit to be printed."""

import getpass
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

# The library's own log lines would stand beside the one line an error is to be.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.message import Message

from gateway.cli.credentials import NOTHING, Shown
from gateway.cli.failure import Exit, Failure, Lost
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub

ACTOR = "cutover-actor"
PAGE = 1000
OVERRIDES_PAGE = 10_000
REVISIONS_PAGE = 100
WAIT_S = 30.0
"""Of one call that waits for an operation."""
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    # The address is meant as given; a proxy for the web is not for it.
    ("grpc.enable_http_proxy", 0),
)
# Both the gateway (its store is down) and the client library (there is no gateway) say UNAVAILABLE; words tell which.
_NEVER_SENT = re.compile(r"failed to connect|errors? resolving|DNS resolution|all backends failing")
_LOST = re.compile(
    r"Socket closed|Connection (reset|dropped)|recvmsg|sendmsg|GOAWAY|Endpoint clos|Broken pipe|[Kk]eepalive"
    r"|Stream removed|Cancelling all calls|shutting down"
)
_NOBODY = "is `cutover serve` running there, and not with TLS? (--admin, --admin-ca)"
_NOBODY_BY_TLS = "is `cutover serve` running there with TLS, and do the certificates fit? (--admin, --admin-ca...)"


class Admin:
    """One connection to the admin API of a gateway. A context manager."""

    def __init__(self, address: str, timeout_s: float, shown: Shown = NOTHING) -> None:
        """`shown`: whom the gateway is to believe, and to be believed by."""
        self._address = address
        self._timeout_s = timeout_s
        self._unmet = _NOBODY if shown.channel is None else _NOBODY_BY_TLS
        if shown.channel is None:
            self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, shown.channel, options=_OPTIONS)
        self._stub: Any = AdminStub(self._channel)
        self._operations: Any = OperationsStub(self._channel)
        self._metadata = ((ACTOR, actor()), *shown.metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def release(self, model: str) -> pb.Release:
        """The release of one model."""
        release: pb.Release = self._call(self._stub.GetRelease, pb.GetReleaseRequest(name=release_name(model)))
        return release

    def releases(self, model: str | None = None) -> list[pb.Release]:
        """All releases, or that of one model."""
        if model is not None:
            return [self.release(model)]
        found: pb.ListReleasesResponse = self._whole(self._stub.ListReleases, pb.ListReleasesRequest(page_size=PAGE))
        return list(found.releases)

    def revisions(self, model: str, limit: int) -> list[pb.Release]:
        """The newest revisions of a release, newest first."""
        found: list[pb.Release] = []
        request = pb.ListRevisionsRequest(name=release_name(model))
        while len(found) < limit:
            request.page_size = min(REVISIONS_PAGE, limit - len(found))
            page = self._call(self._stub.ListRevisions, request)
            found += page.revisions
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return found

    def version(self, model: str, version: int) -> pb.Version:
        """One version."""
        found: pb.Version = self._call(self._stub.GetVersion, pb.GetVersionRequest(name=version_name(model, version)))
        return found

    def versions(self, model: str | None = None) -> pb.ListVersionsResponse:
        """Versions found, and what else lies in the models directory."""
        request = pb.ListVersionsRequest(parent=_parent(model), page_size=PAGE)
        response: pb.ListVersionsResponse = self._whole(self._stub.ListVersions, request)
        return response

    def statistics(self, model: str | None = None) -> pb.ListStatisticsResponse:
        """What every version did under every arm, and what every proxy does."""
        request = pb.ListStatisticsRequest(parent=_parent(model), page_size=PAGE)
        response: pb.ListStatisticsResponse = self._whole(self._stub.ListStatistics, request)
        return response

    def carry_out(self, method: str, request: Any) -> pb.Version:
        """Starts an operation on a version, such as `carry_out("LoadVersion", ...)`, and waits for its end."""
        until_s = time.monotonic() + self._timeout_s
        operation = self._call(getattr(self._stub, method), request)
        while not operation.done:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                said = f"{request.name} is not ready after {self._timeout_s:g} s (--timeout), and goes on loading"
                raise Failure(Exit.UNREACHABLE, said)
            wait = operations_pb2.WaitOperationRequest(name=operation.name)
            wait.timeout.FromMilliseconds(int(1000 * min(left_s, WAIT_S)))
            operation = self._call(self._operations.WaitOperation, wait)
        if operation.HasField("error"):
            raise Failure(Exit.REFUSED, operation.error.message)
        version = pb.Version()
        operation.response.Unpack(version)
        return version

    def overrides(self, model: str, units: Sequence[str] = ()) -> dict[str, str]:
        """Arm by unit, of all units that are overridden, or of these."""
        found: dict[str, str] = {}
        token = ""
        while True:
            request = pb.ListOverridesRequest(
                name=release_name(model), units=units, page_size=OVERRIDES_PAGE, page_token=token
            )
            page: pb.ListOverridesResponse = self._call(self._stub.ListOverrides, request)
            found |= {one.unit: one.arm for one in page.overrides}
            token = page.next_page_token
            if not token:
                return found

    def events(self, model: str | None, limit: int | None) -> list[pb.AuditEvent]:
        """The newest audit events, newest first; `limit` None: all of them."""
        found: list[pb.AuditEvent] = []
        token = ""
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            request = pb.ListAuditEventsRequest(parent=_parent(model), page_size=size, page_token=token)
            page = self._call(self._stub.ListAuditEvents, request)
            if limit is None and page.hidden:
                raise _partial()
            found += page.events
            token = page.next_page_token
            if not token:
                break
        return found

    def backup(self) -> Iterator[bytes]:
        """Everything the store holds, piece by piece; however long it takes."""
        try:
            for piece in self._stub.Backup(pb.BackupRequest(), metadata=self._metadata):
                yield piece.lines
        except grpc.RpcError as error:
            raise self.failure(error) from error

    def history(self, after: int = 0) -> Iterator[pb.AuditEvent]:
        """All audit events later than a sequence, oldest first, a page at a time."""
        newest = self._call(self._stub.ListAuditEvents, pb.ListAuditEventsRequest(page_size=1))
        if newest.hidden:  # else the newest that may be seen would look like the end
            raise _partial()
        last = newest.events[0].sequence if newest.events else 0
        for start in range(after + 1, last + 1, PAGE):
            stop = min(start + PAGE, last + 1)
            found: list[pb.AuditEvent] = []
            token = ""
            while len(found) < stop - start:
                request = pb.ListAuditEventsRequest(page_size=PAGE, page_token=token, before_sequence=stop)
                page = self._call(self._stub.ListAuditEvents, request)
                if page.hidden:
                    raise _partial()
                found += [event for event in page.events if start <= event.sequence < stop]
                token = page.next_page_token
                if not token or page.events[-1].sequence <= start:
                    break
            yield from reversed(found)

    def create_token(self, request: pb.CreateTokenRequest) -> pb.CreateTokenResponse:
        """Makes a token; the answer has its secret."""
        made: pb.CreateTokenResponse = self._call(self._stub.CreateToken, request)
        return made

    def tokens(self) -> list[pb.Token]:
        """All tokens that the caller may give, by name."""
        found: list[pb.Token] = []
        token = ""
        while True:
            page = self._call(self._stub.ListTokens, pb.ListTokensRequest(page_size=PAGE, page_token=token))
            found += page.tokens
            token = page.next_page_token
            if not token:
                return found

    def revoke_token(self, request: pb.RevokeTokenRequest) -> pb.Token:
        """Ends a token."""
        revoked: pb.Token = self._call(self._stub.RevokeToken, request)
        return revoked

    def change(self, method: str, request: Message) -> pb.Release:
        """Asks for a change, such as `change("Flip", pb.FlipRequest(...))`, and returns the release after it."""
        release: pb.Release = self._call(getattr(self._stub, method), request)
        return release

    def gateways(self) -> pb.ListGatewaysResponse:
        """The gateways that share the store."""
        response: pb.ListGatewaysResponse = self._call(self._stub.ListGateways, pb.ListGatewaysRequest())
        return response

    def fence(self, gateway: str, reason: str) -> None:
        """Says that a gateway is dead."""
        self._call(self._stub.FenceGateway, pb.FenceGatewayRequest(name=f"gateways/{gateway}", reason=reason))

    def watch(self, model: str | None, after_sequence: int = 0) -> "Watch":
        """The current state of one or all releases, then every change; of what has changed after that sequence."""
        name = release_name(model) if model is not None else ""
        request = pb.WatchReleasesRequest(name=name, after_sequence=after_sequence)
        return Watch(self._stub.WatchReleases(request, metadata=self._metadata), self.failure)

    def _whole(self, method: Any, request: Any) -> Any:
        """All pages of a list as one."""
        whole = page = self._call(method, request)
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = self._call(method, request)
            whole.MergeFrom(page)
        whole.ClearField("next_page_token")
        return whole

    def _call(self, method: Any, request: Message) -> Any:
        try:
            return method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.failure(error, getattr(request, "request_id", "")) from error

    def failure(self, error: Any, request_id: str = "") -> Failure:
        """The line and exit code for a gRPC error; `request_id` of a change makes it say how to repeat it safely."""
        code, details = error.code(), " ".join((error.details() or "").split())
        again = f"; whether the change was made is not known: repeat it with --request-id {request_id}"
        unsure = again if request_id else ""
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return Failure(Exit.REFUSED, f"{details} (--token-file, CUTOVER_TOKEN)")
        cause = details.rsplit(": ", 1)[-1].rstrip("]")
        cause = "handshake failed" if cause == "OK" else cause  # which is all that gRPC says then
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            said = f"no answer from {self._address} within {self._timeout_s:g} s (--timeout){unsure}"
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            said = f"{self._address} does not offer this admin call: is it the admin port? (--admin)"
        elif code is grpc.StatusCode.UNAVAILABLE and _NEVER_SENT.search(details):
            said = f"cannot reach the gateway at {self._address} ({cause}): {self._unmet}"
        elif code is grpc.StatusCode.UNAVAILABLE and _LOST.search(details):
            return Lost(f"lost the gateway at {self._address} ({cause}){unsure}")
        else:
            return Failure(Exit.REFUSED, details or code.name)
        return Failure(Exit.UNREACHABLE, said)


class Watch(Iterator[pb.Release]):
    """Releases as they change, until cancelled or the gateway goes away (then Failure)."""

    def __init__(self, stream: Any, failure: Callable[[Any], Failure]) -> None:
        self._stream = stream
        self._failure = failure

    def __next__(self) -> pb.Release:
        try:
            release: pb.Release = next(self._stream)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return release

    def cancel(self) -> None:
        """Ends the watch; safe from another thread."""
        self._stream.cancel()


def actor() -> str:
    """Who asks, as `user@host`, in the visible ASCII that metadata may hold."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    text = f"{user}@{socket.gethostname()}"
    return "".join(char if "!" <= char <= "~" else "?" for char in text)


def _partial() -> Failure:
    return Failure(Exit.REFUSED, "the whole audit log is for viewers of all models, and you may see some of them only")


def release_name(model: str) -> str:
    """The resource name of a model's release."""
    return f"models/{model}/release"


def version_name(model: str, version: int) -> str:
    """The resource name of a version."""
    return f"models/{model}/versions/{version}"


def _parent(model: str | None) -> str:
    return "" if model is None else f"models/{model}"
