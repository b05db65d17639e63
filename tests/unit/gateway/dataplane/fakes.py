"""Doubles for the data plane's neighbours: a call, a loop that turns by hand, a worker at the end of a frame stream."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from gateway.dataplane.channel import Channel
from gateway.dataplane.job import Job, Load
from gateway.dataplane.lane import Lane
from gateway.dataplane.plan import signature
from gateway.dataplane.slots import LAYOUT, Slots
from gateway.dataplane.tap import Series
from gateway.errors import Code
from gateway.oip import request as oip
from gateway.routing.snapshot import Pool, Tensor
from gateway.transport.call import NO_TRAILERS, UNKNOWN_PEER, Metadata, OnCancel, ReplyOptions, Trailers
from protos import inference_pb2 as pb
from workers import memory, wire


class FakeCall:
    """Records its answer; a second answer is an error unless the caller had left."""

    def __init__(
        self,
        message: bytes,
        values: dict[str, str] | None = None,
        arrived_s: float = 0.0,
        deadline_s: float = inf,
    ) -> None:
        self.metadata = Metadata("/inference.GRPCInferenceService/ModelInfer", values or {}, None, None)
        self.message = message
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.closed = False
        self.on_cancel: OnCancel | None = None
        self.cancelled = False
        self.worked_on = False
        """The caller has left, and work on the call goes on."""
        self.code: Code | None = None
        self.text = ""
        self.body = b""
        self.trailers: dict[str, str | bytes] = {}
        self.peer = UNKNOWN_PEER
        self.answers = 0

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        self._answer(Code.OK, trailers)
        self.body = message

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        self._answer(code, trailers)
        self.text = message

    def _answer(self, code: Code, trailers: Trailers) -> None:
        if self.cancelled:
            self.worked_on = False
            return
        self.answers += 1
        assert self.answers == 1, "answered twice"
        self.closed = True
        self.on_cancel = None
        self.code = code
        self.trailers = dict(trailers.pairs)

    def cancel(self) -> None:
        """The caller leaves."""
        if not self.closed:
            self.closed = self.cancelled = self.worked_on = True
            on_cancel, self.on_cancel = self.on_cancel, None
            if on_cancel is not None and not on_cancel():
                self.worked_on = False

    @property
    def words(self) -> dict[str, str]:
        """The trailers for people."""
        return {key: value for key, value in self.trailers.items() if isinstance(value, str)}

    @property
    def response(self) -> pb.ModelInferResponse:
        """The reply, read by the protobuf library."""
        assert self.code == Code.OK, (self.code, self.text)
        return pb.ModelInferResponse.FromString(self.body)

    def array(self, output: int = 0, dtype: str = "<f4") -> Any:
        """An output as numpy sees it."""
        response = self.response
        raw = np.frombuffer(response.raw_output_contents[output], dtype)
        return raw.reshape(tuple(response.outputs[output].shape)).tolist()


Timer = tuple[float, Callable[..., object], tuple[object, ...]]


@dataclass
class ManualTimer:
    """Handle of a timer of a `ManualLoop`."""

    loop: "ManualLoop"
    timer: Timer

    def cancel(self) -> None:
        self.loop.later.remove(self.timer)


class ManualLoop:
    """`call_soon` and `call_later` of a loop that turns when told to."""

    def __init__(self) -> None:
        self._soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self.later: list[Timer] = []

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self._soon.append((callback, args))

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> "ManualTimer":
        timer = (delay_s, callback, args)
        self.later.append(timer)
        return ManualTimer(self, timer)

    def run(self) -> None:
        """Turns until nothing is due."""
        while self._soon:
            callback, args = self._soon.popleft()
            callback(*args)

    @property
    def real(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


@dataclass
class Section:
    """One section of a frame, taken apart."""

    signature: bytes
    rows: int
    tensors: list[bytes]


@dataclass
class Frame:
    """A frame that reached the worker."""

    number: int
    kind: int
    sections: list[Section]
    flags: int = 0
    deadline_ms: int = 0
    slot: int = 0

    @property
    def rows(self) -> int:
        return self.sections[0].rows


def parse(data: bytes, shared: Slots | None = None) -> list[Frame]:
    """Every frame in the bytes, which must be whole frames; `shared`: where the sections of large ones lie."""
    frames, position = [], 0
    while position < len(data):
        length, number, kind, flags, slot, deadline_ms = wire.HEADER.unpack_from(data, position)
        assert flags & ~(wire.TELL | wire.SLOT) == 0
        assert kind == wire.RUN or (flags & wire.TELL, deadline_ms) == (0, 0)
        position += wire.HEADER.size
        body = data[position : position + length]
        if flags & wire.SLOT:
            assert shared is not None
            start, stop = wire.PLACE.unpack(body)
            base = LAYOUT.sent_at(slot)
            body = bytes(shared.view[base + start : base + stop])
        frames.append(Frame(number, kind, _sections(body), flags & wire.TELL, deadline_ms, slot))
        position += length
    assert position == len(data)
    return frames


def _sections(body: bytes) -> list[Section]:
    sections, position = [], 0
    while position < len(body):
        size, count, rows = wire.SECTION.unpack_from(body, position)
        position += wire.SECTION.size
        sizes = [wire.SIZE.unpack_from(body, position + 4 * i)[0] for i in range(count)]
        position += 4 * count
        text, position = body[position : position + size], position + size
        tensors = []
        for length in sizes:
            tensors.append(body[position : position + length])
            position += length
        sections.append(Section(text, rows, tensors))
    assert position == len(body)
    return sections


def frame(number: int, kind: int, body: bytes, flags: int = 0, micros: int = 0) -> bytes:
    """A frame as a worker writes it."""
    return wire.HEADER.pack(len(body), number, kind, flags, 0, micros) + body


def result(number: int, outputs: list[tuple[str, str, list[int], bytes]], rows: int, micros: int = 7) -> bytes:
    """A RESULT frame; each output is (name, datatype, shape without axis 0, all rows' bytes)."""
    text = signature([(name, datatype, shape) for name, datatype, shape, _ in outputs])
    return frame(number, wire.RESULT, b"".join(wire.section(text, rows, [raw for *_, raw in outputs])), micros=micros)


def in_slot(shared: Slots, slot: int, answer: bytes) -> bytes:
    """A RESULT as a worker writes it whose section is in the slot; other frames, and small ones, as they are."""
    length, number, kind, _, _, micros = wire.HEADER.unpack_from(answer)
    if kind != wire.RESULT or length <= shared.threshold_bytes:
        return answer
    assert memory.fill(shared.fd, LAYOUT.answer_at(slot), [answer[wire.HEADER.size :]], length)
    return wire.HEADER.pack(wire.PLACE.size, number, kind, wire.SLOT, slot, micros) + wire.PLACE.pack(0, length)


ACCEPTED = wire.HEADER.pack(0, 0, wire.ATTACH, 1, 0, 0)
"""A worker's answer to an offer of memory."""


def echo(asked: Frame, micros: int = 7) -> bytes:
    """The model Y = X."""
    return result(asked.number, [("Y", "FP32", [2], asked.sections[0].tensors[0])], asked.rows, micros)


def error(number: int, text: str = "the model raised", code: int = Code.INTERNAL) -> bytes:
    return frame(number, wire.ERROR, text.encode(), flags=code)


def begun(number: int) -> bytes:
    return frame(number, wire.BEGUN, b"")


def compared(number: int, rows: int, agreed: int, incomparable: int = 0, difference: float = 0.0) -> bytes:
    return frame(number, wire.COMPARED, wire.COMPARISON.pack(rows, agreed, incomparable, 0, difference), micros=5)


class FakeTransport(asyncio.Transport):
    """Collects what a channel writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True

    def is_closing(self) -> bool:
        return self._closed

    def take(self, shared: Slots | None = None) -> list[Frame]:
        """The frames written since the last take."""
        frames = parse(bytes(self.written), shared)
        self.written.clear()
        return frames


class FakeWorker:
    """The far end of a channel, answering by hand."""

    def __init__(
        self,
        on_free: Callable[[], None],
        on_gone: Callable[[Channel], None],
        *,
        up: bool = True,
        shared: Slots | None = None,
    ) -> None:
        """shared: memory that it takes part in; every section goes there that is large enough."""
        self.channel = Channel("worker", on_free, on_gone)
        self.channel.slots = self.shared = shared
        self.transport = FakeTransport()
        self.waiting: deque[Frame] = deque()
        self.cancelled: list[int] = []
        """The numbers for which CANCEL has come."""
        if up:
            self.channel.connection_made(self.transport)
            if shared is not None:
                self.channel.data_received(ACCEPTED)

    def frames(self) -> list[Frame]:
        """Everything in flight at this worker, oldest first."""
        for found in self.transport.take(self.shared):
            if found.kind == wire.CANCEL:
                self.cancelled.append(found.number)
            else:
                self.waiting.append(found)
        return list(self.waiting)

    def answer(self, make: Callable[[Frame], bytes] = echo) -> Frame:
        """Answers the oldest frame."""
        self.begin()
        asked = self.waiting.popleft()
        made = make(asked)
        if self.shared is not None and asked.slot:
            made = in_slot(self.shared, asked.slot, made)
        self.channel.data_received(made)
        return asked

    def begin(self) -> None:
        """Begins to run the oldest frame, and says so where that is asked for."""
        if self.frames() and self.waiting[0].flags & wire.TELL:
            self.channel.data_received(begun(self.waiting[0].number))

    def die(self, *, idle: bool = False) -> None:
        """Of the oldest frame; `idle`: before it was begun, of what another proxy has sent."""
        if not idle:
            self.begin()
        self.transport.take(self.shared)
        self.waiting.clear()
        self.channel.connection_lost(None)


def pool(**changes: Any) -> Pool:
    """Model `m` version 1: X FP32 [-1,2] -> Y FP32 [-1,2]."""
    fields: dict[str, Any] = {
        "model": "m",
        "version": 1,
        "shadow": False,
        "state": "ready",
        "inputs": (Tensor("X", "FP32", (-1, 2)),),
        "outputs": (Tensor("Y", "FP32", (-1, 2)),),
        "batched": True,
        "max_batch_size": 8,
    }
    return Pool(**(fields | changes))


def floats(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def infer(*rows: tuple[float, float], model: str = "m", **fields: Any) -> bytes:
    """A ModelInferRequest for `pool()`."""
    message = pb.ModelInferRequest(model_name=model, **fields)
    message.inputs.add(name="X", datatype="FP32", shape=[len(rows), 2])
    message.raw_input_contents.append(floats(*[value for row in rows for value in row]))
    return message.SerializeToString()


def job_of(lane: Lane, call: FakeCall, series: Series | None = None) -> Job:
    """What the pipeline makes of an admitted call."""
    request, raw = oip.read(call.message)
    plan = lane.plans.get(request.head)
    found = series or Series("m", 1, "stable")
    return Job(call, plan, plan.arrange(raw), request.id, found, NO_TRAILERS)


class LaneBench:
    """A lane between hand-made calls and hand-run workers."""

    def __init__(
        self, workers: int = 1, max_queue: int = 64, wait_s: float = 10.0, *, shared: bool = False, **changes: Any
    ) -> None:
        """shared: all tensors, however small, lie in memory shared with the workers."""
        self.loop = ManualLoop()
        self.shared = shared
        self.load = Load(1000)
        self.series = Series("m", 1, "stable")
        self.lane = Lane(pool(**changes), self.load, self.loop.real, max_queue, wait_s)
        self.workers: list[FakeWorker] = []
        for _ in range(workers):
            self.add_worker()

    def add_worker(self) -> FakeWorker:
        worker = FakeWorker(self.lane.schedule, self._gone, shared=Slots(0) if self.shared else None)
        self.workers.append(worker)
        self._update()
        return worker

    def _gone(self, channel: Channel) -> None:
        self.workers = [worker for worker in self.workers if worker.channel is not channel]
        self._update()

    def _update(self) -> None:
        self.lane.update(self.lane.pool, tuple(worker.channel for worker in self.workers))

    @property
    def worker(self) -> FakeWorker:
        (worker,) = self.workers
        return worker

    def submit(self, *rows: tuple[float, float], deadline_s: float = inf, **fields: Any) -> FakeCall:
        """Queues a call without turning the loop."""
        return self.send(infer(*rows, **fields), deadline_s=deadline_s)

    def send(self, message: bytes, deadline_s: float = inf) -> FakeCall:
        call = FakeCall(message, deadline_s=deadline_s)
        self.lane.submit(job_of(self.lane, call, self.series))
        return call

    def turn(self) -> None:
        self.loop.run()


class SocketWorker:
    """A worker's stand-in on a real Unix socket. `answer` gives the bytes for a frame; None: hang; b"": hang up."""

    def __init__(self, path: Path, answer: Callable[[Frame], bytes | None] = echo) -> None:
        self.address = str(path)
        self.answer = answer
        self.seen: list[Frame] = []
        self.connections = 0
        self.offers = 0
        """Of shared memory."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Dies."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.close()
        if self._handlers:
            await asyncio.wait(self._handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        self.connections += 1
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(wire.HEADER.size)
                body = await reader.readexactly(wire.HEADER.unpack(header)[0])
                if wire.HEADER.unpack(header)[2] == wire.ATTACH:
                    self.offers += 1  # never accepted, so all travels over the socket
                    continue
                asked = parse(header + body)[0]
                if asked.kind == wire.CANCEL:
                    continue
                self.seen.append(asked)
                if asked.flags & wire.TELL:
                    writer.write(begun(asked.number))
                answer = self.answer(asked)
                if answer == b"":
                    break
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        self._writers.discard(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Waits for a condition that other tasks of the loop make true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)
