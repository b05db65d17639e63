"""Floods over real sockets: an honest gRPC client is served all the while, and memory stays within a stated bound."""

import gzip
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, END_HEADERS, FrameType, frame
from gateway.transport.h2.hpack import encode
from protos import inference_pb2 as pb
from tests import models
from tests.integration.attacks import MANY, MIB, PING, STREAMS, begin, block, call, odd
from tests.integration.siege import PATIENCE_S, Attacker, Victim
from tests.serving import serving
from tests.unit.gateway.transport.h2.peer import data, message, reset, settings, window_update

CALM = ErrorCode.ENHANCE_YOUR_CALM


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """With the limits as they are by default."""
    made = Victim()
    yield made
    made.stop()


def growing() -> Iterator[bytes]:
    """SETTINGS that open the windows of many waiting replies byte by byte."""
    yield settings(initial_window_size=0)
    yield from (call(stream_id, "Large", b"1") for stream_id in odd(STREAMS - 1))
    yield from (settings(initial_window_size=size) for size in range(1, MANY))


def mismatched(stream_id: int) -> bytes:
    """A call whose body is shorter than its content-length."""
    return begin(stream_id, "Echo", (b"content-length", b"100")) + data(stream_id, message(b""))


MALFORMED = frame(FrameType.HEADERS, END_HEADERS, 1, block("Echo", (b"UPPER", b"case")))[9:]
TWICE = block("Echo")

MADE_YOU_RESET: dict[str, Callable[[int], bytes]] = {
    "window of 0": lambda each: call(each, "Work") + window_update(each, 0),
    "window overflow": lambda each: call(each, "Work") + window_update(each, 2**31 - 1),
    "priority of a wrong size": lambda each: begin(each) + frame(FrameType.PRIORITY, 0, each, bytes(4)),
    "data after the end": lambda each: call(each, "Work") + data(each, b"more"),
    "headers after the end": lambda each: call(each, "Work") + frame(FrameType.HEADERS, 5, each, TWICE),
    "headers twice": lambda each: begin(each) + frame(FrameType.HEADERS, END_HEADERS, each, TWICE),
    "malformed headers": lambda each: frame(FrameType.HEADERS, END_HEADERS, each, MALFORMED),
    "content-length": mismatched,
    "data after the end of a stream": lambda each: begin(each, "Deaf") + data(each, b"") + data(each, b"more"),
}
"""What makes the server reset a stream (CVE-2025-8671): each way, on streams whose work goes on."""

FLOODS: dict[str, tuple[str, Callable[[], Iterable[bytes]]]] = {
    "rapid reset": ("resets", lambda: (call(each, "Work") + reset(each) for each in odd())),
    "rapid reset of headers": ("resets", lambda: (begin(each) + reset(each) for each in odd())),
    "rapid reset of streams": ("resets", lambda: (begin(each, "Watch") + reset(each) for each in odd())),
    "streams above the limit": ("resets", lambda: (begin(each) for each in odd())),
    "watches above the limit": ("resets", lambda: (begin(each, "Watch") for each in odd())),
    "continuation": (
        "headers",
        lambda: itertools.chain(
            [frame(FrameType.HEADERS, 0, 1, b"")], [frame(FrameType.CONTINUATION, 0, 1, b"")] * MANY
        ),
    ),
    "large continuation": (
        "headers",
        lambda: itertools.chain(
            [frame(FrameType.HEADERS, 0, 1, b"")], [frame(FrameType.CONTINUATION, 0, 1, bytes(16_384))] * 1000
        ),
    ),
    "settings": ("chatter", lambda: [settings(max_frame_size=20_000)] * MANY),
    "settings of many entries": ("chatter", lambda: [frame(FrameType.SETTINGS, 0, 0, struct.pack(">HL", 3, 1) * 33)]),
    "settings that open windows byte by byte": ("chatter", growing),
    "ping": ("pings", lambda: [PING] * MANY),
    "ping after each call": ("pings", lambda: (call(each, "Echo") + PING * 4 for each in odd())),
    "answers to no ping": ("chatter", lambda: [frame(FrameType.PING, ACK, 0, bytes(8))] * MANY),
    "empty data": ("chatter", lambda: itertools.chain([begin(1)], [data(1, b"", end=False)] * MANY)),
    "small data": (
        "chatter",
        lambda: itertools.chain(
            [begin(1), data(1, message(bytes(60_000))[:200], end=False)], [data(1, b"x", end=False)] * MANY
        ),
    ),
    "empty data on a stream": (
        "chatter",
        lambda: itertools.chain([begin(1, "Chat")], [data(1, b"", end=False)] * MANY),
    ),
    "small data on a stream": (
        "chatter",
        lambda: itertools.chain(
            [begin(1, "Chat"), data(1, message(bytes(60_000))[:200], end=False)], [data(1, b"x", end=False)] * MANY
        ),
    ),
    "priority": ("chatter", lambda: [frame(FrameType.PRIORITY, 0, 1, bytes(5))] * MANY),
    "streams that depend on themselves": (
        "chatter",
        lambda: itertools.chain([begin(1)], [frame(FrameType.PRIORITY, 0, 1, struct.pack(">LB", 1, 0))] * MANY),
    ),
    "unknown frames": ("chatter", lambda: [struct.pack(">LBL", 0xEE, 0, 1)] * MANY),
    "window updates of the connection": ("chatter", lambda: [window_update(0, 1)] * MANY),
    "window updates of a stream": ("chatter", lambda: itertools.chain([begin(1)], [window_update(1, 1)] * MANY)),
    "window updates of a finished stream": (
        "chatter",
        lambda: itertools.chain([call(1, "Echo")], [window_update(1, 0)] * MANY),
    ),
    "resets of finished streams": ("chatter", lambda: itertools.chain([call(1, "Echo")], [reset(1)] * MANY)),
} | {
    f"made you reset: {name}": ("resets", lambda attack=attack: map(attack, odd()))
    for name, attack in MADE_YOU_RESET.items()
}


@pytest.mark.parametrize(("reason", "attack"), FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_stopped(victim: Victim, reason: str, attack: Callable[[], Iterable[bytes]]) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        attacker.pour(attack())
        assert attacker.end() in (CALM, None)  # None: a reset overtook the GOAWAY
        state = victim.wait(lambda state: reason in state["refusals"])
    assert state["refusals"][reason] == 1 or reason == "headers"
    assert state["most_running"] <= STREAMS, "jobs of streams that were reset count"


def test_no_reset_frees_the_place_of_a_job_that_runs() -> None:
    """Were there no limit of resets: several waves, and never more jobs than streams."""
    lenient = Victim(reset_burst=10_000)
    try:
        with lenient.besieged(most_mib=40), Attacker(lenient.port) as attacker:
            ids = iter(odd())
            for _ in range(10):
                wave = list(itertools.islice(ids, STREAMS))
                attacker.pour(call(each, "Work") for each in wave)
                attacker.pour(reset(each) for each in wave[:90])
                lenient.ask("Echo", b"")
            state = lenient.wait(lambda state: state["running"] == 0)
        assert state["most_running"] == STREAMS
        assert state["refusals"].keys() == {"streams"}
    finally:
        lenient.stop()


@pytest.mark.parametrize(
    "oversized",
    [
        block("Echo", (b"x-long", b"v" * 17_000)),
        block("Echo", *[(b"x-many", b"")] * 101),
        block("Echo", *[(b"cookie", b"a=b")] * 101),  # crumbs count one by one (RFC 9113 section 8.2.3)
        block("Echo") + b"\x82" * 101,  # a field of one octet each
    ],
)
def test_large_headers_are_refused(victim: Victim, oversized: bytes) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        attacker.pour(frame(FrameType.HEADERS, END_HEADERS, each, oversized) for each in odd(900))
        state = victim.wait(lambda state: "resets" in state["refusals"] or state["refusals"].get("headers", 0) == 900)
    assert state["refusals"]["headers"] >= 900


@pytest.mark.parametrize("path", ["Echo", "Chat"])
def test_a_decompression_bomb_is_not_unpacked(victim: Victim, path: str) -> None:
    """64 MiB in 64 KB, twenty times: refused at 4 MiB each."""
    packed = gzip.compress(bytes(64 * MIB))
    bomb = struct.pack(">BL", 1, len(packed)) + packed
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        for each in odd(20):
            head = begin(each, path, (b"grpc-encoding", b"gzip"))
            attacker.pour([head, data(each, bomb[:60_000], end=False), data(each, bomb[60_000:])])
        state = victim.wait(lambda state: state["refusals"].get("decompressed_size", 0) == 20)
    assert state["refusals"] == {"decompressed_size": 20}


def test_a_window_full_of_tiny_messages_makes_nobody_wait(victim: Victim) -> None:
    """A hundred streams bring 13,000 messages each, which are echoed to nobody who reads."""
    empty = message(b"") * 3000
    with victim.besieged(most_mib=120), Attacker(victim.port, deaf=True) as attacker:
        attacker.pour(begin(each, "Chat") + data(each, empty, end=False) * 4 for each in odd(100))
        for _ in range(20):
            assert victim.ask("Echo", b"honest") == b"honest"


@pytest.mark.parametrize("path", ["Echo", "Chat"])
def test_a_message_above_the_limit_is_refused_by_its_prefix(path: str) -> None:
    small = Victim(max_message_bytes=MIB)
    try:
        with small.besieged(most_mib=16), Attacker(small.port) as attacker:
            for each in odd(500):
                attacker.pour([begin(each, path), data(each, struct.pack(">BL", 0, 2**31 - 1) + bytes(99), end=False)])
            state = small.wait(lambda state: state["refusals"].get("message_size", 0) == 500)
            assert state["refusals"] == {"message_size": 500}
    finally:
        small.stop()


def of_gateway(stream_id: int, path: str, body: bytes, *, end: bool = True) -> bytes:
    """A call of a method of the gateway."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode())]
    headers = encode([*fields, (b"content-type", b"application/grpc")])
    return frame(FrameType.HEADERS, END_HEADERS, stream_id, headers) + data(stream_id, body, end=end)


INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"


def test_a_gateway_under_attack_serves_on_and_says_so(tmp_path: Path) -> None:
    models.save(tmp_path / "models", "classifier", 1, models.classifier())
    (tmp_path / "cutover.toml").write_text("[limits]\nmax_streams = 50\nmax_header_fields = 20\n")
    values = np.linspace(-1, 1, 30, dtype="<f4").tobytes()
    request = pb.ModelInferRequest(model_name="classifier", raw_input_contents=[values])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 30])
    body = request.SerializeToString()
    with (
        serving(tmp_path / "models", tmp_path / "state", "--config", str(tmp_path / "cutover.toml")) as gateway,
        grpc.insecure_channel(gateway.target) as channel,
    ):
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
        for path, sent in ((INFER, message(body)), (WATCH, message(b"")), (STREAM_INFER, message(body))):
            with Attacker(gateway.grpc) as attacker:
                attacker.pour(of_gateway(each, path, sent) + reset(each) for each in odd())
                assert pb.ModelInferResponse.FromString(ask(body, timeout=PATIENCE_S)).model_version == "1"
                assert attacker.end() in (CALM, None)
        with Attacker(gateway.grpc) as attacker:  # a hundred thousand tiny messages, each of them a mistake
            attacker.pour(of_gateway(each, STREAM_INFER, message(b"") * 2500, end=False) for each in odd(40))
            assert pb.ModelInferResponse.FromString(ask(body, timeout=PATIENCE_S)).model_version == "1"
            attacker.pour([frame(FrameType.HEADERS, END_HEADERS, 1001, block("Nothing") + b"\x82" * 17)])
            assert gateway.wait_metric("cutover_transport_refusals_total", 1, reason="headers") == 1
        assert gateway.wait_metric("cutover_transport_refusals_total", 3, reason="resets") == 3
        assert gateway.wait_metric("cutover_transport_refusals_total", 1, reason="streams") >= 1
        assert gateway.metric("cutover_in_flight_requests") == 0
