"""A request's way, in order: admit -> read -> assign -> check -> lane. Synchronous; the answer comes by callback."""

from math import inf
from typing import Final

from gateway.dataplane.job import Job, Load, Ranked
from gateway.dataplane.refusal import refuse
from gateway.dataplane.route import FORCE, Route, Way
from gateway.dataplane.tap import Series
from gateway.errors import Late, NotFound, NotReady, QueueFull, RequestError
from gateway.oip import request as oip
from gateway.oip.asked import NOTHING, asked
from gateway.transport.call import Call

PUSHBACK_MS: Final = 100
LAPSED: Final = "this gateway has lost its store and may be out of date (store.cut_off)"
UNNAMED: Final = "?"
"""Who asks, when neither a unit nor the peer's address is known."""


class Pipeline:
    """Takes ModelInfer calls. `routes` is replaced whole when a snapshot is applied."""

    __slots__ = ("_refused", "lease_until_s", "load", "routes")

    def __init__(self, load: Load, refused: Series) -> None:
        self.routes: dict[bytes, Route] = {}
        self.load = load
        self.lease_until_s = inf
        """Requests that arrive later are refused: `routes` may be out of date (monotonic)."""
        self._refused = refused

    def infer(self, call: Call) -> None:
        """Answers the call now with an error, or later through its lane."""
        series = self._refused
        trailers = None
        try:
            load = self.load
            if load.in_flight >= load.limit:
                raise self._full()
            arrived_s = call.arrived_s
            if arrived_s >= self.lease_until_s:
                raise NotReady(LAPSED)
            request, raw = oip.read(call.message)
            route = self.routes.get(request.model)
            if route is None:
                raise NotFound(f"model '{oip.text('model_name', request.model)}' is not served here")
            series = route.refused
            values = call.metadata.values
            if route.undivided and not request.version and FORCE not in values:
                arm, trailers = route.stable, route.usual
            else:
                arm, reason = route.assign(values, request)
                trailers = arm.trailers[reason]
            series = arm.series
            if call.deadline_s <= arrived_s:
                raise Late("the deadline passed before the request arrived")
            if load.in_flight >= load.half and not load.admits(stable=arm is route.stable):
                raise self._full()
            lane = arm.way
            plan = lane.plans.known.get(request.head) or lane.plans.get(request.head)
            tensors = raw if len(raw) == 1 and len(raw[0]) == plan.only_size else plan.arrange(raw)
            job = Job(call, plan, tensors, request.id, series, trailers)
            if request.parameters or not lane.door.plain:
                job = _ranked(job, lane, route, request)
            lane.submit(job)
        except RequestError as error:
            series.refused(error.code)
            if trailers is None:
                refuse(call, error)
            else:
                refuse(call, error, trailers)

    def _full(self) -> QueueFull:
        return QueueFull(f"{self.load.limit} requests are in flight already", PUSHBACK_MS)


def _ranked(job: Job, lane: Way, route: Route, request: oip.Request) -> Job:
    """The job as its parameters want it, and with who asks where that matters."""
    wish = asked(request.parameters) if request.parameters else NOTHING
    door = lane.door
    if door.plain and not wish.timeout_s:
        return job
    call = job.call
    who = (route.unit(call.metadata.values, request) or call.peer.address or UNNAMED) if door.crowded else ""
    ranked = Ranked(job, door.level(wish.priority), who)
    if wish.timeout_s:
        ranked.deadline_s = min(ranked.deadline_s, call.arrived_s + wish.timeout_s)
    return ranked
