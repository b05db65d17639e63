"""Runs against servers that answer, refuse, hang up, or do not listen."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from loadtests.openloop.frames import GOAWAY, SETTINGS, frame
from loadtests.openloop.generator import Generator, Run, Unreachable
from loadtests.openloop.payload import framed
from loadtests.schedule import Stage

Behave = Callable[[bytes, Any], Awaitable[bytes]]
PATH = "/a.B/C"


class Handlers(grpc.GenericRpcHandler):
    def __init__(self, behave: Behave) -> None:
        self._behave = behave

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._behave)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Behave], Awaitable[str]]]:
    """Starts a gRPC server that behaves so; gives its target."""
    servers = []

    async def start(behave: Behave) -> str:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handlers(behave),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


def run(target: str, rate: float = 400, seconds: float = 0.5, **more: Any) -> Run:
    stages = (Stage("warm-up", 0.1, rate, rate, measured=False), Stage("all", seconds, rate, rate))
    return Run(target, PATH, framed(b"hello"), stages, **more)


async def test_every_request_is_accounted_for(serve: Callable[[Behave], Awaitable[str]]) -> None:
    seen: list[dict[str, Any]] = []

    async def behave(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        if len(seen) % 4 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"full {len(seen)}")
        return request

    target = await serve(behave)
    found = await Generator(run(target, deadline_s=30.0, metadata=(("x-user-id", "u1"),))).run()
    total = [sum(stage["answers"].values()) for stage in found["stages"]]
    assert [stage["intended"] for stage in found["stages"]] == total
    assert sum(total) == len(seen)
    assert sum(stage["answers"]["RESOURCE_EXHAUSTED"] for stage in found["stages"]) == len(seen) // 4
    assert found["generator"]["data_bytes"] == 10 * (len(seen) - len(seen) // 4)
    assert found["measured"]["answers"] == found["stages"][1]["answers"]
    assert sum(each["intended"] for each in found["slices"]) == len(seen)
    assert {each["x-user-id"] for each in seen} == {"u1"}
    assert found["generator"]["lost_connections"] == []


async def test_what_is_too_much_is_not_sent_and_counted(serve: Callable[[Behave], Awaitable[str]]) -> None:
    ended = asyncio.Event()

    async def behave(request: bytes, context: Any) -> bytes:
        await ended.wait()
        return request

    target = await serve(behave)
    found = await Generator(run(target, seconds=0.2, max_in_flight=8, grace_s=0.1)).run()
    ended.set()
    sent = sum(stage["intended"] - stage["unsent"] for stage in found["stages"])
    assert sent == sum(stage["unanswered"] for stage in found["stages"]) == 8
    assert found["measured"]["unsent"] > 0
    assert any("not sent" in warning for warning in found["warnings"])


async def test_what_the_generator_did_not_get_to_is_counted_and_makes_it_late(
    serve: Callable[[Behave], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def behave(request: bytes, context: Any) -> bytes:
        return request

    monkeypatch.setattr(Generator, "_ring", lambda self: self._alarm.heard())
    found = await Generator(run(await serve(behave), seconds=0.2, grace_s=0.0, arrivals="constant")).run()
    measured = found["measured"]
    assert (measured["intended"], measured["unsent"], measured["unanswered"]) == (80, 80, 0)
    assert sum(each["unsent"] for each in found["slices"]) == 120, "the warm-up's, too"
    assert measured["send_delay_us"]["max"] > 100_000
    assert any("not sent" in warning for warning in found["warnings"])


async def test_a_connection_that_is_lost_is_replaced() -> None:
    """A server that says goodbye to whoever calls: each call is lost, and the next connection comes."""
    met = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        writer.write(frame(SETTINGS, 0, 0))
        called = await reader.read(1 << 16)
        while PATH.encode() not in called and b"hello" not in called and not reader.at_eof():
            called += await reader.read(1 << 16)
        writer.write(frame(GOAWAY, 0, 0, struct.pack(">LL", 0, 0)))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = await Generator(run(target, rate=20, seconds=1.5, connections=1)).run()
    server.close()
    assert met > 1
    assert len(found["generator"]["lost_connections"]) >= 1
    answers = found["measured"]["answers"]
    assert set(answers) <= {"UNAVAILABLE"}
    assert sum(answers.values()) + found["measured"]["unsent"] == found["measured"]["intended"]


async def test_nobody_there(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=r"nothing at 127\.0\.0\.1"):
        await Generator(run(f"127.0.0.1:{unused_tcp_port}")).run()
    with pytest.raises(Unreachable, match="nothing at unix:/nowhere"):
        await Generator(run("unix:/nowhere")).run()
