"""grpc.health.v1.Health: what can answer now, once (Check, List) or whenever it changes (Watch).

Nothing is polled: the plane says when readiness may have changed, and each watched service is then looked at once,
however many watch it. Semantics: grpc doc/health-checking.md.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from gateway.dataplane.plane import Plane
from gateway.dataplane.refusal import refuse
from gateway.errors import InvalidRequest, NotFound, NotReady, QueueFull, TooMany
from gateway.transport.call import Stream
from protos import health_pb2 as pb

LIVENESS: Final = "liveness"
OVERALL: Final = ("", "readiness", "inference.GRPCInferenceService")
"""These say whether the proxy as a whole is ready. Any other name is a model's."""
MAX_LISTED: Final = 100
"""Of List; the protocol's own bound."""
MAX_WATCHES: Final = 4096
MAX_NAME_CHARS: Final = 1024
"""Of a watched service; no model's name is as long."""
PUSHBACK_MS: Final = 5000

UNKNOWN: Final = pb.HealthCheckResponse.SERVICE_UNKNOWN
_STATES: Final = (pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING, UNKNOWN)
_MESSAGES: Final = {state: pb.HealthCheckResponse(status=state).SerializeToString() for state in _STATES}


class Health:
    """The service's methods. `drain` turns readiness off for good and ends every watch."""

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop) -> None:
        self._plane = plane
        self._loop = loop
        self._watches: dict[str, set[_Watch]] = {}
        self._count = 0
        self._scheduled = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """The proxy has settled and takes requests."""
        return self._plane.settled and self.open

    @property
    def open(self) -> bool:
        """The proxy takes requests: it does not drain, and knows that it is up to date."""
        return not (self.draining or self._plane.lapsed)

    def status(self, service: str) -> pb.HealthCheckResponse.ServingStatus:
        """SERVICE_UNKNOWN for what is neither a service nor a released model."""
        if service == LIVENESS:
            serving = True
        elif service in OVERALL:
            serving = self.ready
        else:
            route = self._plane.pipeline.routes.get(service.encode())
            if route is None:
                return UNKNOWN
            serving = route.stable.lane.ready and self.open
        return pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING

    def check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        """Raises NotFound for a service that is not known."""
        status = self.status(request.service)
        if status == UNKNOWN:
            raise NotFound(f"model '{request.service}' is not served here")
        return pb.HealthCheckResponse(status=status)

    def list(self, _: pb.HealthListRequest) -> pb.HealthListResponse:
        """Raises TooMany when there are more services than an answer may hold."""
        names = [LIVENESS, *OVERALL, *(model.decode() for model in self._plane.pipeline.routes)]
        if len(names) > MAX_LISTED:
            raise TooMany(f"{len(names)} services are more than a list may hold ({MAX_LISTED}); check them one by one")
        return pb.HealthListResponse(statuses={name: self.check(pb.HealthCheckRequest(service=name)) for name in names})

    def watch(self, stream: Stream, message: bytes) -> None:
        """Sends the status of a service now and whenever it changes, until the watcher leaves or the proxy drains."""
        try:
            service = pb.HealthCheckRequest.FromString(message).service
        except DecodeError:
            refuse(stream, InvalidRequest("the message is not a HealthCheckRequest"))
            return
        if len(service) > MAX_NAME_CHARS:
            refuse(stream, InvalidRequest(f"a service's name has at most {MAX_NAME_CHARS} characters"))
        elif self._count >= MAX_WATCHES:
            refuse(stream, QueueFull(f"{MAX_WATCHES} watches are open already", PUSHBACK_MS))
        else:
            self._add(service, stream)

    def _add(self, service: str, stream: Stream) -> None:
        watch = _Watch(stream, lambda: self.status(service))
        self._watches.setdefault(service, set()).add(watch)
        self._count += 1
        stream.on_cancel = lambda: self._forget(service, watch)
        watch.tell(self.status(service))
        if self.draining:
            self._end(service, watch)

    def _forget(self, service: str, watch: "_Watch") -> None:
        watches = self._watches.get(service, set())
        if watch in watches:
            watches.remove(watch)
            self._count -= 1
            if not watches:
                del self._watches[service]

    def _end(self, service: str, watch: "_Watch") -> None:
        self._forget(service, watch)
        refuse(watch.stream, NotReady("the server is draining; watch again"))

    def changed(self) -> None:
        """Readiness may have changed: watchers hear of it in the next turn of the loop, once for all changes."""
        if self._watches and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._scheduled = False
        for service, watches in list(self._watches.items()):
            status = self.status(service)
            for watch in list(watches):
                watch.tell(status)

    def drain(self) -> None:
        """Tells everyone NOT_SERVING, then ends the watches: who watches would else hold the drain up."""
        self.draining = True
        self._tell()
        for service, watches in list(self._watches.items()):
            for watch in list(watches):
                self._end(service, watch)


class _Watch:
    """One watcher. While it does not read, only the newest status waits for it."""

    __slots__ = ("_blocked", "_status", "_told", "stream")

    def __init__(self, stream: Stream, status: Callable[[], pb.HealthCheckResponse.ServingStatus]) -> None:
        self.stream = stream
        self._status = status
        self._told: pb.HealthCheckResponse.ServingStatus | None = None
        self._blocked = False
        stream.on_writable = self._on_writable

    def tell(self, status: pb.HealthCheckResponse.ServingStatus) -> None:
        """Sends the status unless the watcher knows it, or has not read the last one."""
        if status != self._told and not self._blocked:
            self._told = status
            self._blocked = not self.stream.send(_MESSAGES[status])

    def _on_writable(self) -> None:
        self._blocked = False
        self.tell(self._status())
