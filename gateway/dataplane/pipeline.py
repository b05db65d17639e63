"""A request's way, in order: admit -> read -> assign -> check -> lane. Synchronous; the answer comes by callback."""

from typing import Final

from gateway.dataplane.job import Job, Load
from gateway.dataplane.refusal import refuse
from gateway.dataplane.route import Route
from gateway.dataplane.tap import Series
from gateway.errors import Late, NotFound, QueueFull, RequestError
from gateway.oip import request as oip
from gateway.transport.call import Call

PUSHBACK_MS: Final = 100


class Pipeline:
    """Takes ModelInfer calls. `routes` is replaced whole when a snapshot is applied."""

    __slots__ = ("_refused", "load", "routes")

    def __init__(self, load: Load, refused: Series) -> None:
        self.routes: dict[bytes, Route] = {}
        self.load = load
        self._refused = refused

    def infer(self, call: Call) -> None:
        """Answers the call now with an error, or later through its lane."""
        series = self._refused
        trailers = None
        try:
            load = self.load
            if load.in_flight >= load.limit:
                raise QueueFull(f"{load.limit} requests are in flight already", PUSHBACK_MS)
            request = oip.read(call.message)
            route = self.routes.get(request.model)
            if route is None:
                raise NotFound(f"model '{oip.text('model_name', request.model)}' is not served here")
            series = route.refused
            arm, reason = route.assign(call.metadata.values, request)
            series = arm.series
            trailers = arm.trailers[reason]
            if call.deadline_s <= call.arrived_s:
                raise Late("the deadline passed before the request arrived")
            lane = arm.lane
            plan = lane.plans.known.get(request.head) or lane.plans.get(request.head)
            lane.submit(Job(call, plan, plan.arrange(request.raw), request.id, series, trailers))
        except RequestError as error:
            series.refused(error.code)
            if trailers is None:
                refuse(call, error)
            else:
                refuse(call, error, trailers)
