"""The Locust user: takes the next arrival, sends it, checks the answer, tells the recorder and Locust's own tables."""

import time
from typing import Any

from locust import User
from locust.exception import StopUser

from loadtests.recorder import OK, bucket, upper_us
from loadtests.schedule import Arrival


class WrongAnswer(Exception):
    """What Locust's failure table shows: a gRPC status, or which part of an answer was wrong."""


def serve_one(user: "InferenceUser") -> None:
    """Sends one request at its time, or ends the user when the schedule is over or never began."""
    arrival = user.drive and user.drive.pacer.take()
    if arrival is None:
        raise StopUser
    user.send(arrival)


class InferenceUser(User):  # type: ignore[misc] # Locust has no type hints that mypy follows
    """One of the users that share a schedule: their number caps the requests in flight, not the rate."""

    abstract = True
    tasks = [serve_one]  # noqa: RUF012 - Locust's way to name tasks

    def on_start(self) -> None:
        """Joins the running load."""
        self.drive: Any = self.environment.cutover_drive  # a drive.Drive, or None when the load could not begin
        self.asker = self.drive and self.drive.next_asker()

    def send(self, arrival: Arrival) -> None:
        """Sends the request and reports what became of it."""
        drive, start_s = self.drive, self.drive.pacer.start_s
        drive.in_flight += 1
        sent_s = time.perf_counter() - start_s
        try:
            outcome = self.asker.ask(arrival.number)
        finally:
            drive.in_flight -= 1
        done_s = time.perf_counter() - start_s
        latency_us = drive.recorder.record(arrival.stage, arrival.at_s, sent_s, done_s, outcome)
        if drive.recorder.stages[arrival.stage].measured:
            self.environment.events.request.fire(
                request_type="gRPC",
                name=drive.label,
                response_time=latency_us,
                response_length=0,
                exception=None if outcome == OK else WrongAnswer(outcome),
                context={},
            )


def whole_microseconds(response_time: float) -> int:
    """Locust's rounding, replaced: the same buckets as our histogram instead of whole milliseconds."""
    return upper_us(bucket(round(response_time)))
