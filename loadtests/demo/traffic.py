"""Clients of the demo: plain gRPC stubs, real rows, one user id per request. They know a gateway only by its port."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from loadtests.client import ARM_KEY, UNIT_KEY, answered_by, status_name
from loadtests.demo.train import INPUT, Digits
from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from protos.inference_pb2_grpc import GRPCInferenceServiceStub

CLIENTS = 8
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What one request met. Times are `time.monotonic()`."""

    user: str
    row: int
    sent_s: float
    done_s: float
    version: str = ""
    arm: str = ""
    label: int = -1
    error: str = ""
    """gRPC status name; empty: answered."""


class Client:
    """One backend service with a connection of its own."""

    def __init__(self, target: str, model: str, digits: Digits) -> None:
        self._channel = grpc.insecure_channel(target, options=(("grpc.use_local_subchannel_pool", 1),))
        self._infer = GRPCInferenceServiceStub(self._channel).ModelInfer
        self._model = model
        self._digits = digits

    def ask(self, user: str, row: int, arm: str | None = None) -> Answer:
        """Which digit is this row? `arm` forces one."""
        request = ModelInferRequest(model_name=self._model)
        request.inputs.add(name=INPUT, datatype="FP32", shape=[1, 64])
        request.raw_input_contents.append(self._digits.rows[row].tobytes())
        metadata = ((UNIT_KEY, user), *(((ARM_KEY, arm),) if arm else ()))
        sent_s = time.monotonic()
        try:
            reply, call = self._infer.with_call(request, timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            return Answer(user, row, sent_s, time.monotonic(), error=status_name(error))
        done_s = time.monotonic()
        return Answer(user, row, sent_s, done_s, reply.model_version, answered_by(call) or "", _label(reply))

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()


@contextmanager
def clients(target: str, model: str, digits: Digits) -> Iterator[list[Client]]:
    """Several services at once."""
    made = [Client(target, model, digits) for _ in range(CLIENTS)]
    try:
        yield made
    finally:
        for client in made:
            client.close()


def ask_all(asking: Sequence[Client], questions: Sequence[tuple[str, int]], arm: str | None = None) -> list[Answer]:
    """Asks (user, row) pairs, spread over the clients; answers in the order of the questions."""

    def ask_share(index: int) -> list[Answer]:
        return [asking[index].ask(user, row, arm) for user, row in questions[index :: len(asking)]]

    with ThreadPoolExecutor(len(asking)) as pool:
        shares = list(pool.map(ask_share, range(len(asking))))
    return [shares[index % len(asking)][index // len(asking)] for index in range(len(questions))]


@dataclass
class Stream:
    """Requests that go on until told to stop, while something else happens."""

    answers: list[Answer] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, client: Client, users: int, rows: int, first: int) -> None:
        """One client's endless work; appending to a list is safe between threads."""
        number = first
        while not self._stopped.is_set():
            self.answers.append(client.ask(f"user-{number % users}", number % rows))
            number += 1

    def wait_for(self, count: int) -> None:
        """Waits until so many more requests have been answered, or failed."""
        goal = len(self.answers) + count
        while len(self.answers) < goal and not self._stopped.wait(0.01):
            pass

    def stop(self) -> None:
        """Lets every client finish its current request."""
        self._stopped.set()


@contextmanager
def streaming(asking: Sequence[Client], users: int, rows: int) -> Iterator[Stream]:
    """Keeps all clients asking while the block runs."""
    stream = Stream()
    with ThreadPoolExecutor(len(asking)) as pool:
        running = [pool.submit(stream.run, client, users, rows, 1000 * index) for index, client in enumerate(asking)]
        try:
            yield stream
        finally:
            stream.stop()
    for future in running:
        future.result()


def _label(reply: ModelInferResponse) -> int:
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        if output.name == "label":
            return int(np.frombuffer(raw, "<i8")[0])
    return -1
