"""Plain clients for end-to-end tests: one request, and threads that never stop asking."""

import threading
import time
from dataclasses import dataclass
from typing import Self

import grpc
import numpy as np

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub

FEATURES = 4


def request(model: str, rows: int = 1, version: str = "") -> pb.ModelInferRequest:
    """A request for `tests.models.constant`: X FP32 [rows, FEATURES]."""
    values = np.ones((rows, FEATURES), np.float32)
    message = pb.ModelInferRequest(model_name=model, model_version=version, raw_input_contents=[values.tobytes()])
    message.inputs.add(name="X", datatype="FP32", shape=values.shape)
    return message


def open_channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """With TLS if there are credentials. A connection of its own: channels of one process would else share one."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def ask(
    target: str, model: str, user: str = "", credentials: grpc.ChannelCredentials | None = None, **metadata: str
) -> tuple[int, dict[str, str]]:
    """(version that answered, trailing metadata). Raises grpc.RpcError."""
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    if user:
        pairs.append(("x-user-id", user))
    with open_channel(target, credentials) as channel:
        stub = GRPCInferenceServiceStub(channel)
        reply, call = stub.ModelInfer.with_call(request(model), metadata=pairs, timeout=30)
    return int(reply.model_version), {item.key: item.value for item in call.trailing_metadata()}


@dataclass(frozen=True)
class Answer:
    """One answer: when it was asked, when it came and from which version (0: it failed, see error); who asked."""

    asked_s: float
    came_s: float
    version: int
    error: str = ""
    user: str = ""


class Askers:
    """Threads that ask again and again, each over a connection of its own, until the block ends."""

    def __init__(
        self, target: str, model: str, threads: int, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """`credentials`: for TLS."""
        self._target = target
        self._credentials = credentials
        self._model = model
        self._stop = threading.Event()
        self.users = {f"user-{number}" for number in range(threads)}
        self._threads = [threading.Thread(target=self._ask, args=(user,)) for user in sorted(self.users)]
        self._lock = threading.Lock()
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def wait_more(self, count: int) -> None:
        """Returns when that many more answers have come."""
        until = time.monotonic() + 60
        target = len(self.answers) + count
        while len(self.answers) < target:
            assert time.monotonic() < until, "the askers get no answers"
            time.sleep(0.002)

    def _ask(self, user: str) -> None:
        message, metadata = request(self._model), [("x-user-id", user)]
        with open_channel(self._target, self._credentials) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._stop.is_set():
                asked_s = time.monotonic()
                try:
                    reply = stub.ModelInfer(message, metadata=metadata, timeout=30)
                    answer = Answer(asked_s, time.monotonic(), int(reply.model_version), user=user)
                    value = int(np.frombuffer(reply.raw_output_contents[0], np.int64)[0])
                    if value != answer.version:
                        answer = Answer(asked_s, answer.came_s, 0, f"version {answer.version} answered {value}", user)
                except grpc.RpcError as error:
                    answer = Answer(asked_s, time.monotonic(), 0, f"{error.code().name}: {error.details()}", user)
                with self._lock:
                    self.answers.append(answer)
