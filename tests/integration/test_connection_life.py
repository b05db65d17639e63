"""The life of a connection as grpcio clients meet it: pings, silence, idleness, age, and goodbyes that fail no call."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import PREFACE, FrameType
from tests.integration.attacks import PING, begin, call
from tests.integration.siege import PATIENCE_S, Attacker, Victim, crowd
from tests.unit.gateway.transport.h2.peer import settings

EAGER = [
    ("grpc.keepalive_time_ms", 100),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


@contextmanager
def victim(**limits: float) -> Iterator[Victim]:
    made = Victim(**limits)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.slow
def test_a_client_that_asks_too_often_is_sent_away_and_calms_down() -> None:
    """grpcio doubles its keepalive time on too_many_pings (gRFC A8); its calls never fail for good."""
    with victim() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}", EAGER) as channel:
        echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Echo")
        assert echo(b"hello", timeout=PATIENCE_S) == b"hello"
        assert server.wait(lambda state: "pings" in state["refusals"])["refusals"].keys() == {"pings"}
        assert echo(b"again", timeout=PATIENCE_S, wait_for_ready=True) == b"again"


def test_an_operator_may_let_clients_ask() -> None:
    with (
        victim(min_ping_interval_s=0.0, min_idle_ping_interval_s=0.0, keepalive_time_s=0.2) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", EAGER) as channel,
        Attacker(server.port) as witness,
    ):
        echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Echo")
        assert echo(b"hello", timeout=PATIENCE_S) == b"hello"
        witness.pour([PING] * 10)
        server.wait(lambda _: witness.heard[FrameType.PING] >= 10)
        assert server.state()["refusals"] == {}


def test_peers_that_vanish_are_noticed() -> None:
    """Nothing answers our PINGs: as when a host is gone, and the kernel has not noticed yet."""
    with victim(keepalive_time_s=0.3, keepalive_timeout_s=0.3) as server:
        greet = PREFACE + settings() + call(1, "Work") + begin(3, "Watch")
        with server.besieged(most_mib=16), crowd(server.port, 20, greet=greet):
            state = server.wait(lambda state: state["refusals"].get("keepalive", 0) == 20)
        assert state["refusals"] == {"keepalive": 20}
        assert server.state()["running"] == 0


def test_old_connections_are_closed_without_failing_a_call() -> None:
    """The honest client asks all the while, on connections that each live for 0.4 s."""
    with victim(max_age_s=0.4) as server, server.besieged(most_mib=16):
        state = server.wait(lambda state: state["refusals"].get("age", 0) >= 4)
    assert state["refusals"].keys() == {"age"}


def test_calls_on_old_connections_are_cancelled_after_the_grace() -> None:
    with (
        victim(max_age_s=0.2, max_age_grace_s=0.2) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test/Watch")
        waiting = watch(b"", timeout=PATIENCE_S)
        assert waiting.code() == grpc.StatusCode.UNAVAILABLE
        assert server.wait(lambda state: "age_grace" in state["refusals"])["refusals"]["age"] >= 1


def test_idle_connections_are_closed_and_come_back() -> None:
    with victim(idle_timeout_s=0.3) as server, Attacker(server.port) as silent:
        assert silent.end() == ErrorCode.NO_ERROR
        for _ in range(3):
            server.wait(lambda state: state["refusals"].get("idle", 0) >= 1)
            assert server.ask("Echo", b"again") == b"again"
