"""Peers that are slow, silent or read nothing: they cost a bounded buffer for a bounded time, and slow nobody."""

import threading
import time
from collections.abc import Iterator

import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, PREFACE, FrameType, frame
from tests.integration.attacks import (
    MIB,
    NEWEST,
    PING,
    SHUT,
    STREAMS,
    begin,
    block,
    call,
    crumbs,
    giant,
    insert,
    odd,
)
from tests.integration.siege import PATIENCE_S, Attacker, Victim, crowd
from tests.unit.gateway.transport.h2.peer import data, message, settings, window_update

WIDE = PREFACE + settings(initial_window_size=2**31 - 1)
HURRIED = {
    "handshake_timeout_s": 1.0,  # forty greetings on a busy machine must not be late
    "header_timeout_s": 0.4,
    "upload_timeout_s": 0.4,
    "write_timeout_s": 0.4,
    "stream_idle_timeout_s": 0.4,
    "max_connections": 100,
}


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


def test_answers_nobody_reads_end_the_connection(victim: Victim) -> None:
    with victim.besieged(most_mib=40), Attacker(victim.port, deaf=True) as attacker:
        attacker.pour(call(each, "Nothing") for each in odd(200_000))
        assert victim.wait(lambda state: "unread" in state["refusals"])["refusals"] == {"unread": 1}


def test_a_bomb_of_references_is_charged_in_full(hurried: Victim) -> None:
    """Ten octets a stream name 12 KiB of fields; all streams may hold that for as long as a request may take."""
    with hurried.besieged(most_mib=64), Attacker(hurried.port) as attacker:
        attacker.pour([frame(FrameType.HEADERS, END_HEADERS, 1, block("Echo") + insert(b"long", b"v" * 4000))])
        for each in odd(STREAMS - 1, start=3):
            attacker.pour([crumbs(each, 3)])
        assert hurried.wait(lambda state: state["refusals"].get("upload_timeout", 0) >= STREAMS - 1)
        for each in odd(100, start=10_001):
            attacker.pour([frame(FrameType.HEADERS, END_HEADERS, each, block("Echo") + NEWEST * 60)])
        assert attacker.end() == ErrorCode.COMPRESSION_ERROR, "a list four times too large is not read to its end"


def test_the_http2_bomb_is_bounded_and_reaped(hurried: Victim) -> None:
    """CVE-2026-49975 and 2026-47774: crumbs of a cookie by reference, kept alive behind a window of 0."""
    with hurried.besieged(most_mib=100), crowd(hurried.port, 20, greet=SHUT) as attackers:
        for attacker in attackers:
            attacker.pour([frame(FrameType.HEADERS, END_HEADERS, 1, block("Large") + insert(b"cookie", b"c" * 4000))])
            for each in odd(STREAMS - 2, start=3):
                attacker.pour([crumbs(each, 3, "Large") + data(each, message(b"x" * 16))])
        state = hurried.wait(lambda state: state["refusals"].get("write_timeout", 0) >= 20 * (STREAMS - 2))
    assert state["refusals"].keys() <= {"write_timeout", "upload_timeout"}


def test_replies_nobody_lets_through_are_bounded(victim: Victim) -> None:
    """200 MiB are asked for behind a window of 0; 128 MiB is what one connection may have waiting."""
    with victim.besieged(most_mib=128 + 40), Attacker(victim.port, greet=SHUT) as attacker:
        attacker.pour(call(each, "Large", bytes(1024)) for each in odd(200))
        state = victim.wait(lambda state: state["refusals"].get("backlog", 0) == 73)
        assert state["refusals"] == {"backlog": 73}


@pytest.mark.parametrize("trickle", [False, True])
def test_replies_nobody_lets_through_are_dropped(hurried: Victim, trickle: bool) -> None:
    with hurried.besieged(most_mib=64), Attacker(hurried.port, greet=SHUT) as attacker:
        attacker.pour(call(each, "Large", bytes(1024)) for each in odd(20))
        until, pause = time.monotonic() + PATIENCE_S, threading.Event()
        while attacker.heard[FrameType.RST_STREAM] < 20:
            assert time.monotonic() < until
            if trickle:
                attacker.pour(window_update(each, 1) for each in odd(20))
            pause.wait(0.02)
        assert hurried.state()["refusals"] == {"write_timeout": 20}


@pytest.mark.parametrize("path", ["Large", "Pour"])
@pytest.mark.parametrize(
    ("greet", "deaf"),
    [
        (WIDE, False),  # the window of the connection is shut
        (WIDE + window_update(0, 2**30), True),  # the socket is full
    ],
)
def test_who_reads_nothing_is_cut_off(hurried: Victim, greet: bytes, deaf: bool, path: str) -> None:
    with hurried.besieged(most_mib=64), Attacker(hurried.port, greet=greet, deaf=deaf) as attacker:
        attacker.pour(call(each, path, bytes(1024)) for each in odd(20))
        state = hurried.wait(lambda state: bool(state["refusals"]))
    assert state["refusals"] == {"write_timeout": 1}


@pytest.mark.parametrize("greet", [SHUT, WIDE, WIDE + window_update(0, 2**30)])
def test_streams_nobody_reads_cost_a_bounded_buffer(victim: Victim, greet: bytes) -> None:
    """Ten connections with a hundred streams each, on which the server would send for ever: 64 KiB each wait."""
    with victim.besieged(most_mib=120), crowd(victim.port, 10, greet=greet, deaf=True) as attackers:
        for attacker in attackers:
            attacker.pour(begin(each, "Pour") for each in odd(100))
        state = victim.wait(lambda state: state["held_bytes"] > 10 * MIB // 4)
        for _ in range(20):
            assert victim.ask("Echo", b"honest") == b"honest"
        assert victim.state()["held_bytes"] < 110 * MIB
    assert state["refusals"] == {}


SLOW = {
    "nothing": ("handshake", b""),
    "half a preface": ("handshake", PREFACE[:10]),
    "a preface alone": ("handshake", PREFACE),
    "half a frame": ("header_timeout", PREFACE + settings() + PING[:12]),
    "half a header block": ("header_timeout", PREFACE + settings() + frame(FrameType.HEADERS, 0, 1, b"")),
    "no body": ("upload_timeout", PREFACE + settings() + begin(1)),
    "half a body": ("upload_timeout", PREFACE + settings() + begin(1) + data(1, message(bytes(500))[:200], end=False)),
    "a giant's prefix": ("upload_timeout", PREFACE + settings() + giant(1)),
    "a giant's prefix on a stream": ("upload_timeout", PREFACE + settings() + giant(1, "Chat")),
    "a stream without a word": ("stream_idle", PREFACE + settings() + begin(1, "Chat")),
}


@pytest.mark.parametrize(("reason", "greet"), SLOW.values(), ids=SLOW.keys())
def test_the_slow_have_a_deadline(hurried: Victim, reason: str, greet: bytes) -> None:
    with hurried.besieged(most_mib=16), crowd(hurried.port, 40, greet=greet, deaf=True):
        state = hurried.wait(lambda state: state["refusals"].get(reason, 0) >= 40)
    assert state["refusals"] == {reason: 40}


def test_connections_above_the_limit_are_cut(hurried: Victim) -> None:
    with hurried.besieged(most_mib=16), crowd(hurried.port, 300, greet=PREFACE + settings(), deaf=True):
        state = hurried.wait(lambda state: state["refusals"].get("connections", 0) == 201)
        assert state["connections"] == 100
    assert hurried.wait(lambda state: state["connections"] == 1)["refusals"] == {"connections": 201}


BUDGET_MIB = 48
PEERS = 40
OVERHEAD_MIB = 32
"""What Python takes besides: uncounted are what one turn of the loop brings, and what the allocator keeps."""


@pytest.fixture(scope="module")
def poor() -> Iterator[Victim]:
    """With a small budget for everybody together."""
    made = Victim(max_buffered_bytes=BUDGET_MIB * MIB)
    yield made
    made.stop()


def uploading(attacker: Attacker) -> None:
    """A large request that does not end: 4 MiB of 16."""
    attacker.pour([begin(1), data(1, message(bytes(16 * MIB))[:60_000], end=False)])
    attacker.pour(data(1, bytes(16_000), end=False) for _ in range(4 * MIB // 16_000))


def small_uploads(attacker: Attacker) -> None:
    """Requests that fit their windows, and do not end."""
    attacker.pour(begin(each) + data(each, message(bytes(60_000))[:50_000], end=False) for each in odd(STREAMS - 1))


def unheard(attacker: Attacker) -> None:
    """Messages of streams whose service takes none, each of them empty."""
    attacker.pour(begin(each, "Deaf") + data(each, message(b"") * 13_000, end=False) for each in odd(STREAMS - 1))


def unread(attacker: Attacker) -> None:
    """Replies behind a window of 0."""
    attacker.pour(call(each, "Large", bytes(512)) for each in odd(10))


CROWDS = {
    "large requests": (PREFACE + settings(), False, uploading),
    "many small requests": (PREFACE + settings(), False, small_uploads),
    "messages that wait": (PREFACE + settings(), False, unheard),
    "replies that wait for windows": (SHUT, False, unread),
    "replies that wait for sockets": (WIDE + window_update(0, 2**30), True, unread),
}


@pytest.mark.parametrize(("greet", "deaf", "attack"), CROWDS.values(), ids=CROWDS.keys())
def test_a_crowd_gets_no_more_memory_than_there_is(poor: Victim, greet: bytes, deaf: bool, attack: object) -> None:
    """Each stays within what one peer may do; together they want four times the budget and more."""
    assert callable(attack)
    with (
        poor.besieged(most_mib=BUDGET_MIB + OVERHEAD_MIB),
        crowd(poor.port, PEERS, greet=greet, deaf=deaf) as attackers,
    ):
        threads = [threading.Thread(target=attack, args=(attacker,)) for attacker in attackers]
        for thread in threads:
            thread.start()
        state = poor.wait(lambda state: "memory" in state["refusals"])
        for _ in range(20):
            assert poor.ask("Echo", b"honest") == b"honest"
        for thread in threads:
            thread.join(PATIENCE_S)
        assert poor.state()["held_bytes"] <= BUDGET_MIB * MIB
    assert state["refusals"].keys() == {"memory"}


def test_an_honest_large_request_waits_for_nobody(poor: Victim) -> None:
    """Attackers hold less than what sends them away; a request that fits beside it is served."""
    with poor.besieged(most_mib=BUDGET_MIB + OVERHEAD_MIB), crowd(poor.port, 8) as attackers:
        for attacker in attackers:
            attacker.pour([begin(1), data(1, message(bytes(16 * MIB))[:60_000], end=False)])
        poor.wait(lambda state: state["held_bytes"] > 8 * 50_000)
        body = bytes(3 * MIB)
        for _ in range(5):
            assert poor.ask("Echo", body) == body
        assert poor.state()["refusals"] == {}
