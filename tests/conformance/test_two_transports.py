"""Call by call: the same calls through both transports, by grpcio's client. What it observes is the same."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.calls import PATIENCE_S, PREFIX, Metadata
from tests.conformance.conftest import Process
from tests.conftest import TRANSPORTS

Pairs = list[tuple[str, str | bytes]]
Channels = dict[str, grpc.Channel]

KEYS = st.sampled_from(
    ["x-user-id", "x-request-id", "a", "b.c_d-e", "cookie", "x-9", "cutover-peer-identity", "x-forwarded-for"]
)
BINARY_KEYS = st.sampled_from(["x-blob-bin", "k-bin"])
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.strip)
BLOBS = st.binary(max_size=40)
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([16_379, 65_535, 200_000]))


def pairs(max_size: int = 4) -> st.SearchStrategy[Pairs]:
    """Metadata; keys may repeat."""
    return st.lists(st.one_of(st.tuples(KEYS, TEXT), st.tuples(BINARY_KEYS, BLOBS)), max_size=max_size)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """How a call is to end."""
    return {
        "code": draw(st.one_of(st.just(0), st.integers(0, 16))),
        "text": draw(st.one_of(st.just("100 % Größe\n😊"), st.text(max_size=60), st.just("x" * 3000))),
        "headers": draw(pairs(2)),
        "trailers": draw(pairs()),
        "compress": draw(st.booleans()),
    }


class Request(NamedTuple):
    """One call."""

    plan: dict[str, Any]
    metadata: Pairs
    body: bytes
    timeout_s: float | None
    compression: grpc.Compression


requests = st.builds(
    Request,
    plans(),
    pairs(),
    st.builds(lambda size, salt: bytes((salt + at) % 256 for at in range(size)), SIZES, st.integers(0, 255)),
    st.sampled_from([None, float(PATIENCE_S), 1e6]),
    st.sampled_from(list(grpc.Compression)),
)


def metadata_of(request: Request, more: Pairs | None = None) -> Metadata:
    """What is sent: the plan, and the rest."""

    def hexadecimal(value: object) -> str:
        assert isinstance(value, bytes)
        return value.hex()

    return (("plan", json.dumps(request.plan, default=hexadecimal)), *request.metadata, *(more or []))


class Seen(NamedTuple):
    """What a client observes of a call."""

    code: grpc.StatusCode
    details: str
    messages: list[bytes]
    headers: Pairs
    trailers: Pairs


def observe(call: Any, messages: list[bytes]) -> Seen:
    """Of a call that is over."""
    headers = [tuple(pair) for pair in call.initial_metadata() or ()]
    trailers = [tuple(pair) for pair in call.trailing_metadata() or ()]
    return Seen(call.code(), call.details() or "", messages, cast("Pairs", headers), cast("Pairs", trailers))


def one(channel: grpc.Channel, method: str, request: Request) -> Seen:
    """A unary call."""
    made: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREFIX + method)
    future = made.future(
        request.body, timeout=request.timeout_s, metadata=metadata_of(request), compression=request.compression
    )
    failure = future.exception()
    return observe(future, [future.result()] if failure is None else [])


def several(channel: grpc.Channel, bodies: list[bytes], request: Request, more: Pairs) -> Seen:
    """A stream: all messages, then the end."""
    made: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PREFIX + "Each")
    call = made(
        iter(bodies),
        timeout=request.timeout_s,
        metadata=metadata_of(request, more),
        compression=request.compression,
    )
    got: list[bytes] = []
    with contextlib.suppress(grpc.RpcError):
        got.extend(call)
    return observe(call, got)


@pytest.fixture(scope="module")
def channels() -> Iterator[Channels]:
    servers = {transport: Process(transport) for transport in TRANSPORTS}
    made = {name: grpc.insecure_channel(f"127.0.0.1:{server.port}") for name, server in servers.items()}
    yield made
    for channel in made.values():
        channel.close()
    assert [server.stop() for server in servers.values()] == ["", ""]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(requests)
def test_unary_calls(channels: Channels, asked: Request) -> None:
    h2, grpcio = (one(channels[name], "Tell", asked) for name in TRANSPORTS)
    assert h2 == grpcio


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(requests, st.lists(BLOBS, max_size=5), st.booleans())
def test_streams(channels: Channels, asked: Request, bodies: list[bytes], early: bool) -> None:
    more: Pairs = [("limit", str(max(1, len(bodies) - 1)))] if early else []
    h2, grpcio = (several(channels[name], [asked.body, *bodies], asked, more) for name in TRANSPORTS)
    assert h2 == grpcio


def test_every_difference_that_is_tested_has_its_row_and_every_row_its_test() -> None:
    here = Path(__file__).parent
    text = (here / "README.md").read_text("utf-8").partition("# Two transports, one behaviour")[2].partition("\n# ")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE))
    found = {
        name
        for path in here.parent.rglob("test_*.py")
        for name in re.findall(r"\bdiffers\(\s*\"([a-z-]+)\"", path.read_text("utf-8"))
    }
    assert found <= rows.keys()
    for name, tested in rows.items():
        files = re.findall(r"`([^`]+)`", tested)
        assert files or tested == "no test", name
        assert all(f'"{name}"' in (here / file).read_text("utf-8") for file in files), name
