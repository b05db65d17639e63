"""Attacks over real sockets: an honest gRPC client is served all the while, and memory stays within a stated bound."""

import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, PREFACE, FrameType, frame
from gateway.transport.h2.hpack import encode
from protos import inference_pb2 as pb
from tests import models
from tests.integration.siege import PATIENCE_S, Attacker, Victim
from tests.serving import serving
from tests.unit.gateway.transport.h2.peer import data, message, reset, settings, window_update

MIB = 1 << 20
MANY = 20_000
CALM = ErrorCode.ENHANCE_YOUR_CALM
HURRIED = {
    "handshake_timeout_s": 0.4,
    "header_timeout_s": 0.4,
    "upload_timeout_s": 0.4,
    "write_timeout_s": 0.4,
    "max_connections": 100,
}


def block(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a call, without the dynamic table."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test/" + path.encode())]
    return encode([*fields, (b"content-type", b"application/grpc"), *more])


def begin(stream_id: int, path: str = "Echo") -> bytes:
    """HEADERS of a call."""
    return frame(FrameType.HEADERS, END_HEADERS, stream_id, block(path))


def call(stream_id: int, path: str, body: bytes = b"") -> bytes:
    """A whole call."""
    return begin(stream_id, path) + data(stream_id, message(body))


def odd(count: int = MANY, start: int = 1) -> range:
    """Stream ids."""
    return range(start, start + 2 * count, 2)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """With the limits as they are by default."""
    made = Victim()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def hurried() -> Iterator[Victim]:
    """With little patience, so that the tests need little."""
    made = Victim(**HURRIED)
    yield made
    made.stop()


def growing() -> Iterator[bytes]:
    """SETTINGS that open the windows of a thousand waiting replies byte by byte."""
    yield settings(initial_window_size=0)
    yield from (call(stream_id, "Large", b"1") for stream_id in odd(500))
    yield from (settings(initial_window_size=size) for size in range(1, MANY))


PING = frame(FrameType.PING, 0, 0, bytes(8))
FLOODS: dict[str, tuple[str, Callable[[], Iterable[bytes]]]] = {
    "rapid reset": ("resets", lambda: (call(each, "Work") + reset(each) for each in odd())),
    "rapid reset of headers": ("resets", lambda: (begin(each) + reset(each) for each in odd())),
    "made you reset by window": ("resets", lambda: (call(each, "Work") + window_update(each, 0) for each in odd())),
    "made you reset by overflow": (
        "resets",
        lambda: (call(each, "Work") + window_update(each, 2**31 - 1) for each in odd()),
    ),
    "made you reset by priority": (
        "resets",
        lambda: (begin(each) + frame(FrameType.PRIORITY, 0, each, bytes(4)) for each in odd()),
    ),
    "made you reset by data": ("resets", lambda: (call(each, "Work") + data(each, b"more") for each in odd())),
    "streams above the limit": ("resets", lambda: (begin(each) for each in odd())),
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
    "ping": ("chatter", lambda: [PING] * MANY),
    "empty data": ("chatter", lambda: itertools.chain([begin(1)], [data(1, b"", end=False)] * MANY)),
    "small data": (
        "chatter",
        lambda: itertools.chain(
            [begin(1), data(1, message(bytes(60_000))[:200], end=False)], [data(1, b"x", end=False)] * MANY
        ),
    ),
    "priority": ("chatter", lambda: [frame(FrameType.PRIORITY, 0, 1, bytes(5))] * MANY),
    "unknown frames": ("chatter", lambda: [struct.pack(">LBL", 0xEE, 0, 1)] * MANY),
    "window updates of the connection": ("chatter", lambda: [window_update(0, 1)] * MANY),
    "window updates of a stream": ("chatter", lambda: itertools.chain([begin(1)], [window_update(1, 1)] * MANY)),
    "window updates of a finished stream": (
        "chatter",
        lambda: itertools.chain([call(1, "Echo")], [window_update(1, 0)] * MANY),
    ),
    "resets of finished streams": ("chatter", lambda: itertools.chain([call(1, "Echo")], [reset(1)] * MANY)),
}


@pytest.mark.parametrize(("reason", "attack"), FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_stopped(victim: Victim, reason: str, attack: Callable[[], Iterable[bytes]]) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        attacker.pour(attack())
        assert attacker.end() in (CALM, None)  # None: a reset overtook the GOAWAY
        state = victim.wait(lambda state: reason in state["refusals"])
    assert state["refusals"][reason] == 1 or reason == "headers"
    assert state["most_running"] <= 1024, "jobs of streams that were reset count"


def test_no_reset_frees_the_place_of_a_job_that_runs(victim: Victim) -> None:
    """Below the limit of resets, by several waves: never more jobs than streams."""
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        ids = iter(odd())
        for _ in range(10):
            wave = list(itertools.islice(ids, 1024))
            attacker.pour(call(each, "Work") for each in wave)
            attacker.pour(reset(each) for each in wave[:90])
            victim.ask("Echo", b"")
        assert victim.wait(lambda state: state["running"] == 0)["most_running"] <= 1024


def test_answers_nobody_reads_end_the_connection(victim: Victim) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port, deaf=True) as attacker:
        attacker.pour(call(each, "Nothing") for each in odd(200_000))
        assert victim.wait(lambda state: "unread" in state["refusals"])["refusals"] == {"unread": 1}


@pytest.mark.parametrize(
    "oversized",
    [
        block("Echo", (b"x-long", b"v" * 17_000)),
        block("Echo", *[(b"x-many", b"")] * 101),
        block("Echo") + b"\x82" * 101,  # a field of one octet each
    ],
)
def test_large_headers_are_refused(victim: Victim, oversized: bytes) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port) as attacker:
        attacker.pour(frame(FrameType.HEADERS, END_HEADERS, each, oversized) for each in odd(900))
        assert victim.wait(lambda state: state["refusals"].get("headers", 0) == 900)["refusals"] == {"headers": 900}


def test_a_bomb_of_references_is_charged_in_full(hurried: Victim) -> None:
    """Ten octets a stream name 12 KiB of fields: 1,024 streams may hold that, for as long as an upload may take."""
    with hurried.besieged(most_mib=64), Attacker(hurried.port) as attacker:
        insert = b"\x40\x04long\x7f\xa1\x1e" + b"v" * 4000
        attacker.pour([frame(FrameType.HEADERS, END_HEADERS, 1, block("Echo") + insert)])
        for each in odd(1023, start=3):
            unique = b"\x00\x01n\x04%04x" % each
            attacker.pour([frame(FrameType.HEADERS, END_HEADERS, each, block("Echo") + b"\xbe" * 3 + unique)])
        assert hurried.wait(lambda state: state["refusals"].get("upload_timeout", 0) >= 1000)
        for each in odd(100, start=10_001):
            attacker.pour([frame(FrameType.HEADERS, END_HEADERS, each, block("Echo") + b"\xbe" * 60)])
        assert attacker.end() == ErrorCode.COMPRESSION_ERROR, "a list four times too large is not read to its end"


def test_replies_nobody_lets_through_are_bounded(victim: Victim) -> None:
    """200 MiB are asked for behind a window of 0; 128 MiB is what one connection may have waiting."""
    with (
        victim.besieged(most_mib=128 + 40),
        Attacker(victim.port, greet=PREFACE + settings(initial_window_size=0)) as attacker,
    ):
        attacker.pour(call(each, "Large", bytes(1024)) for each in odd(200))
        state = victim.wait(lambda state: state["refusals"].get("backlog", 0) == 72)
        assert state["refusals"] == {"backlog": 72}


@pytest.mark.parametrize("trickle", [False, True])
def test_replies_nobody_lets_through_are_dropped(hurried: Victim, trickle: bool) -> None:
    greet = PREFACE + settings(initial_window_size=0)
    with hurried.besieged(most_mib=64), Attacker(hurried.port, greet=greet) as attacker:
        attacker.pour(call(each, "Large", bytes(1024)) for each in odd(20))
        until, pause = time.monotonic() + PATIENCE_S, threading.Event()
        while attacker.heard[FrameType.RST_STREAM] < 20:
            assert time.monotonic() < until
            if trickle:
                attacker.pour(window_update(each, 1) for each in odd(20))
            pause.wait(0.02)
        assert hurried.state()["refusals"] == {"write_timeout": 20}


@pytest.mark.parametrize(
    ("greet", "deaf"),
    [
        (PREFACE + settings(initial_window_size=2**31 - 1), False),  # the window of the connection is shut
        (PREFACE + settings(initial_window_size=2**31 - 1) + window_update(0, 2**30), True),  # the socket is full
    ],
)
def test_who_reads_nothing_is_cut_off(hurried: Victim, greet: bytes, deaf: bool) -> None:
    with hurried.besieged(most_mib=64), Attacker(hurried.port, greet=greet, deaf=deaf) as attacker:
        attacker.pour(call(each, "Large", bytes(1024)) for each in odd(20))
        state = hurried.wait(lambda state: bool(state["refusals"]))
    assert state["refusals"] == {"write_timeout": 1}


SLOW = {
    "nothing": ("handshake", b""),
    "half a preface": ("handshake", PREFACE[:10]),
    "a preface alone": ("handshake", PREFACE),
    "half a frame": ("header_timeout", PREFACE + settings() + PING[:12]),
    "half a header block": ("header_timeout", PREFACE + settings() + frame(FrameType.HEADERS, 0, 1, b"")),
    "no body": ("upload_timeout", PREFACE + settings() + begin(1)),
    "half a body": ("upload_timeout", PREFACE + settings() + begin(1) + data(1, message(bytes(500))[:200], end=False)),
    "a giant's prefix": (
        "upload_timeout",
        PREFACE + settings() + begin(1) + data(1, struct.pack(">BL", 0, 2**31 - 1) + bytes(1000), end=False),
    ),
}


@pytest.mark.parametrize(("reason", "greet"), SLOW.values(), ids=SLOW.keys())
def test_the_slow_have_a_deadline(hurried: Victim, reason: str, greet: bytes) -> None:
    with hurried.besieged(most_mib=16):
        slow = [Attacker(hurried.port, greet=greet, deaf=True) for _ in range(40)]
        state = hurried.wait(lambda state: state["refusals"].get(reason, 0) >= 40)
        for attacker in slow:
            attacker.__exit__()
    assert state["refusals"] == {reason: 40}


def test_a_message_above_the_limit_is_refused_by_its_prefix() -> None:
    small = Victim(max_message_bytes=MIB)
    try:
        with small.besieged(most_mib=16), Attacker(small.port) as attacker:
            for each in odd(500):
                attacker.pour([begin(each), data(each, struct.pack(">BL", 0, 2**31 - 1) + bytes(1000), end=False)])
            state = small.wait(lambda state: state["refusals"].get("message_size", 0) == 500)
            assert state["refusals"] == {"message_size": 500}
    finally:
        small.stop()


def test_connections_above_the_limit_are_cut(hurried: Victim) -> None:
    with hurried.besieged(most_mib=16):
        crowd = [Attacker(hurried.port, greet=PREFACE + settings(), deaf=True) for _ in range(300)]
        state = hurried.wait(lambda state: state["refusals"].get("connections", 0) == 201)
        assert state["connections"] == 100
        for attacker in crowd:
            attacker.__exit__()
    assert hurried.wait(lambda state: state["connections"] == 1)["refusals"] == {"connections": 201}


def infer(stream_id: int, request: bytes) -> bytes:
    """A whole inference."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/inference.GRPCInferenceService/ModelInfer")]
    headers = frame(
        FrameType.HEADERS, END_HEADERS, stream_id, encode([*fields, (b"content-type", b"application/grpc")])
    )
    return headers + data(stream_id, message(request))


def test_a_gateway_under_rapid_reset_serves_on_and_says_so(tmp_path: Path) -> None:
    models.save(tmp_path / "models", "classifier", 1, models.classifier())
    (tmp_path / "cutover.toml").write_text('[limits]\nmax_streams = 50\nidle_timeout = "1h"\n')
    values = np.linspace(-1, 1, 30, dtype="<f4").tobytes()
    request = pb.ModelInferRequest(model_name="classifier", raw_input_contents=[values])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 30])
    body = request.SerializeToString()
    with (
        serving(tmp_path / "models", tmp_path / "state", "--config", str(tmp_path / "cutover.toml")) as gateway,
        grpc.insecure_channel(gateway.target) as channel,
    ):
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer"
        )
        for _ in range(3):
            with Attacker(gateway.grpc) as attacker:
                attacker.pour(infer(each, body) + reset(each) for each in odd())
                assert pb.ModelInferResponse.FromString(ask(body, timeout=PATIENCE_S)).model_version == "1"
                assert attacker.end() in (CALM, None)
        assert gateway.wait_metric("cutover_transport_refusals_total", 3, reason="resets") == 3
        assert gateway.wait_metric("cutover_transport_refusals_total", 1, reason="streams") >= 1
        assert gateway.metric("cutover_in_flight_requests") == 0
