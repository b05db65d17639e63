from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Code
from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, UNKNOWN_PEER, Handler, Peer, Streaming
from gateway.transport.h2 import fields
from gateway.transport.h2.errors import ConnectionFault, Refusal, StreamFault
from gateway.transport.h2.headers import KNOWN_BYTES, HeaderReader
from gateway.transport.h2.hpack import Decoder, encode
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import Peer as Client
from tests.unit.gateway.transport.h2.peer import data, message

Pairs = list[tuple[str, str]]
USUAL: Pairs = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "here:80"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.80"),
    ("te", "trailers"),
]


class Paths:
    """A service with one unary and one streaming method."""

    def __init__(self) -> None:
        self.resolved = 0

    def resolve(self, path: str) -> Handler | Streaming | None:
        self.resolved += 1
        handlers: dict[str, Handler | Streaming] = {"/a.B/C": _never, "/a.B/S": Streaming(_never)}
        return handlers.get(path)


def _never(_: object) -> None:
    """Never called here."""


def reader(peer: Peer = UNKNOWN_PEER, **limits: int) -> HeaderReader:
    return HeaderReader(Paths(), Limits(**limits), lambda: peer)


def values(read: HeaderReader, encoder: hpack.Encoder, *more: tuple[str, str]) -> dict[str, str]:
    return read.read(encoder.encode([*USUAL, *more]))[0].values


def test_equal_blocks_share_their_metadata() -> None:
    read, encoder = reader(), hpack.Encoder()
    read.read(encoder.encode(USUAL))
    first, second = (read.read(encoder.encode(USUAL)) for _ in range(2))
    assert first is second
    assert read._service.resolved == 2, "once spelled out, once from the table"  # type: ignore[attr-defined] # it is ours


def test_a_changing_request_id_is_read_alone() -> None:
    """Whether it is indexed, which shifts all indices, or not."""
    for never in (True, False):
        read, encoder = reader(), hpack.Encoder()
        for turn in range(300):
            pair = ("x-request-id", f"id-{turn}")
            found = values(read, encoder, hpack.NeverIndexedHeaderTuple(*pair) if never else pair)
            assert (found["x-request-id"], found["user-agent"]) == (f"id-{turn}", "grpc-go/1.80")
        assert read._service.resolved < 20  # type: ignore[attr-defined] # it is ours


def test_a_changing_timeout_is_read_alone() -> None:
    read, encoder = reader(), hpack.Encoder()
    for turn in range(100):
        metadata, _, timeout_s, _ = read.read(encoder.encode([*USUAL, ("grpc-timeout", f"{turn}S")]))
        assert (metadata.timeout_s, timeout_s, metadata.values["grpc-timeout"]) == (turn, turn, f"{turn}S")
    assert read.read(encoder.encode(USUAL))[2] == float("inf")
    with pytest.raises(Refusal) as caught:
        read.read(encoder.encode([*USUAL, ("grpc-timeout", "soon")]))
    assert caught.value.code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("more", [[("grpc-timeout", "1S ")], [("grpc-timeout", "soon"), ("x-a", "\0")]])
def test_a_malformed_field_is_found_before_a_timeout_is_read(more: list[tuple[str, str]]) -> None:
    """RFC 9113 section 8.1.1: the request is malformed, whatever else it is, on every way of reading it."""
    read, encoder = reader(), hpack.Encoder()
    for _ in range(3):
        values(read, encoder)
    with pytest.raises(StreamFault, match="forbidden character"):
        read.read(encoder.encode([*USUAL, *more]))


def test_a_field_before_the_pseudo_headers_is_found() -> None:
    read, encoder = reader(), hpack.Encoder()
    for _ in range(3):
        values(read, encoder, ("x-a", "1"))
    with pytest.raises(StreamFault, match="late pseudo-header"):
        read.read(encoder.encode([("x-a", "other"), *USUAL]))


names = st.sampled_from(
    ["x-a", "x-b", "grpc-timeout", "content-length", "te", "host", "x-a-bin", "Bad", ":path", "cookie"]
)
texts = st.sampled_from(["1", "2S", "trailers", "here:80", "", " blank", "a,b", "/a.B/C", "/a.B/S", "/no", "é"])


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.lists(st.tuples(names, texts, st.booleans()), max_size=4), st.integers(0, 8)), max_size=12),
    st.sampled_from([0, 120, 4096]),
)
def test_every_way_says_what_reading_field_by_field_says(
    requests: list[tuple[list[tuple[str, str, bool]], int]], table_bytes: int
) -> None:
    encoder, read, plain = hpack.Encoder(), reader(), Decoder()
    encoder.header_table_size = table_bytes
    for extra, place in requests:
        more = [hpack.NeverIndexedHeaderTuple(name, text) if never else (name, text) for name, text, never in extra]
        block = encoder.encode([*USUAL[:place], *more, *USUAL[place:]])
        entries = plain.read(block).entries()
        assert said(lambda block=block: read.read(block)) == said(lambda entries=entries: again(entries))


def again(entries: list[Any]) -> Any:
    metadata = fields.read(entries, Paths().resolve)
    return metadata, metadata.handler, metadata.timeout_s, fields.content_length(metadata)


def said(way: Any) -> Any:
    try:
        metadata, _, _, length = way()
    except (Refusal, StreamFault) as error:
        return type(error), str(error)
    return metadata.path, metadata.values, metadata.timeout_s, type(metadata.handler), length


def test_the_transport_says_who_calls() -> None:
    read, encoder = reader(Peer("192.0.2.1:5")), hpack.Encoder()
    for _ in range(3):
        found = values(read, encoder, (PEER_ADDRESS, "lie"), (PEER_IDENTITY, "admin"))
        assert (found[PEER_ADDRESS], PEER_IDENTITY in found) == ("192.0.2.1:5", False)


def test_blocks_mean_what_the_table_says_now() -> None:
    """Every insertion or eviction may change the meaning of the same bytes."""
    read, encoder = reader(), hpack.Encoder()
    encoder.header_table_size = 200
    for turn in range(60):
        user = f"user-{turn * 7 % 5}" + "x" * (turn % 3 * 30)
        assert values(read, encoder, ("x-user-id", user))["x-user-id"] == user


def test_what_is_remembered_is_bounded() -> None:
    read = reader()
    for turn in range(2000):
        block = encode([(name.encode(), text.encode()) for name, text in [*USUAL, ("x-user-id", str(turn % 500))]])
        read.read(block)
        read.read(block)
        assert len(read.known) * 1024 <= KNOWN_BYTES
        assert len(read._patterns) <= 32


def test_what_is_spelled_out_is_remembered_when_it_comes_again() -> None:
    read, block = reader(), encode([(name.encode(), text.encode()) for name, text in USUAL])
    read.read(block)
    assert not read.known
    assert read.read(block) is read.read(block)


def test_long_blocks_are_not_remembered() -> None:
    read = reader()
    for _ in range(3):
        read.read(encode([(name.encode(), text.encode()) for name, text in [*USUAL, ("x-long", "v" * 4000)]]))
    assert not read.known


def test_too_much_metadata_is_refused_and_the_table_stays_in_step() -> None:
    read, encoder = reader(max_header_list_bytes=1000), hpack.Encoder()
    with pytest.raises(Refusal) as caught:
        values(read, encoder, ("x-long", "v" * 1000))
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "headers")
    assert values(read, encoder)["te"] == "trailers"


def test_what_is_no_header_block_ends_the_connection() -> None:
    with pytest.raises(ConnectionFault):
        reader().read(b"\x80")


def test_streaming_calls_are_read_each_time() -> None:
    read, encoder = reader(), hpack.Encoder()
    pairs = [(name, "/a.B/S" if name == ":path" else text) for name, text in USUAL]
    kinds = [type(read.read(encoder.encode(pairs))[1]) for _ in range(3)]
    assert kinds == [Streaming] * 3


def test_new_blocks_are_read_on_the_quick_way_and_refused_there() -> None:
    client = Client()
    client.send(client.request(1))
    bad = (
        client.headers(3, ("x-a", " blank")),
        client.headers(5, (":path", "/no/Such")),
        client.headers(7, ("x-b", "1")),
    )
    frames = client.send(*bad, data(7, message(b"served")))
    found = client.answers(frames)
    assert [frame.stream_id for frame in frames if frame.kind == 3] == [3, 5]
    assert (found[5][1]["grpc-status"], found[7][0]) == ("12", message(b"served"))


def test_long_patterns_are_not_remembered() -> None:
    """Or thirty-two of them would hold what a hundred streams may, for as long as the connection."""
    read, encoder = reader(), hpack.Encoder()
    for length, patterns in ((100, 1), (2100, 0)):
        read._patterns.clear()
        for _ in range(3):
            assert values(read, encoder, ("x-long", "v" * length))["x-long"] == "v" * length
        assert len(read._patterns) >= patterns
    assert not any("x-long" in pattern.metadata.values for pattern in read._patterns.values())
