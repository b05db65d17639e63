"""RFC 9113 section 8: expressing HTTP semantics in HTTP/2."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, FrameType, frame
from gateway.transport.h2.hpack import encode
from tests.conformance.rfc9113.expect import (
    KEEP,
    connection_error,
    continuation,
    plain_block,
    served,
    stream_error,
    with_block,
)
from tests.unit.gateway.transport.h2.peer import REQUEST, Frame, Pairs, Peer, data, message

ENDS = END_HEADERS | END_STREAM


def malformed(block: bytes) -> None:
    """A request with this header block is malformed: PROTOCOL_ERROR of the stream, and nobody is asked to serve it."""
    for flags, body in ((END_HEADERS, data(1, message(b"hello"))), (ENDS, b"")):
        peer = Peer()
        stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, frame(FrameType.HEADERS, flags, 1, block), body)
        assert peer.service.kept == []
        assert peer.works(3)


def pairs_block(pairs: Pairs) -> bytes:
    return encode([(name.encode(), value.encode("latin-1")) for name, value in pairs])


def without(name: str) -> Pairs:
    return [pair for pair in REQUEST if pair[0] != name]


def answer(*changes: tuple[str, str]) -> dict[str, str]:
    """Headers and trailers of the answer to a request without a body."""
    peer = Peer()
    (headers,) = peer.send(peer.headers(1, *changes, flags=ENDS))
    assert headers.flags == ENDS
    return peer.fields(headers)


def test_a_get_request_is_answered() -> None:
    """Section 8.1: with 405, because gRPC is POST. h2spec: generic/4/1."""
    assert answer((":method", "GET"))[":status"] == "405"


def test_a_head_request_is_answered() -> None:
    """Section 8.1: with 405. h2spec: generic/4/2."""
    assert answer((":method", "HEAD"))[":status"] == "405"


def test_a_post_request_is_answered() -> None:
    """Section 8.1: headers, content, trailers that end the stream. h2spec: generic/4/3."""
    peer = Peer()
    frames = peer.send(peer.request(1))
    assert [(item.kind, item.flags) for item in frames] == [(1, END_HEADERS), (0, 0), (1, ENDS)]
    served(peer, 1, frames)


def test_a_post_request_with_trailers_is_answered() -> None:
    """Section 8.1: also when the trailers need CONTINUATION. h2spec: generic/4/4."""
    peer = Peer()
    served(peer, 1, peer.send(peer.headers(1), data(1, message(b"hello"), end=False), peer.trailers(1, ("x-t", "1"))))
    sent = [peer.headers(3), data(3, message(b"hello"), end=False), peer.trailers(3, ("x-t", "2"), flags=END_STREAM)]
    served(peer, 3, peer.send(*sent, continuation(3, b"")))


def test_second_headers_without_end_stream_are_malformed() -> None:
    """Section 8.1: PROTOCOL_ERROR of the stream. h2spec: http2/8.1/1."""
    peer = Peer()
    sent = [peer.headers(1), data(1, b"\0", end=False), peer.trailers(1, ("x-t", "1"), flags=END_HEADERS)]
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, *sent)


def test_an_answer_before_the_end_of_the_request_asks_to_stop() -> None:
    """Section 8.1: a complete response, then RST_STREAM with NO_ERROR; what still arrives is ignored."""
    peer = Peer()
    headers, reset = peer.send(peer.headers(1, (":path", "/no.Such/Method")))
    assert (headers.kind, headers.flags) == (FrameType.HEADERS, ENDS)
    assert (reset.kind, reset.code) == (FrameType.RST_STREAM, ErrorCode.NO_ERROR)
    assert peer.send(data(1, message(b"hello"))) == []


def test_responses_begin_with_one_status() -> None:
    """Section 8.3.2: of each answer, good or bad; trailers have none."""
    peer = Peer()
    headers, _, trailers = peer.send(peer.request(1))
    assert [name for name in peer.fields(headers) if name.startswith(":")] == [":status"]
    assert [name for name in peer.fields(trailers) if name.startswith(":")] == []
    assert [name for name in answer((":path", "/no.Such/Method")) if name.startswith(":")] == [":status"]


@pytest.mark.parametrize(("length", "body"), [("1", b""), ("0", b"hello"), ("9", b"hello"), ("11", b"hello")])
def test_a_content_length_that_is_not_the_data_is_malformed(length: str, body: bytes) -> None:
    """Section 8.1.1: PROTOCOL_ERROR. h2spec: http2/8.1.2.6/1."""
    peer = Peer()
    end = ENDS if not body else END_HEADERS
    sent = frame(FrameType.HEADERS, end, 1, plain_block(("content-length", length)))
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, sent, data(1, message(body)) if body else b"")
    assert peer.service.kept == []


def test_a_content_length_that_is_not_the_sum_of_the_data_is_malformed() -> None:
    """Section 8.1.1: of all DATA frames together; padding does not count. h2spec: http2/8.1.2.6/2."""
    peer = Peer()
    first, rest = message(b"hello")[:4], message(b"hello")[4:]
    right, wrong = (plain_block(("content-length", length)) for length in ("10", "11"))
    for stream_id, block in ((1, right), (3, wrong)):
        headers = frame(FrameType.HEADERS, END_HEADERS, stream_id, block)
        pieces = [frame(FrameType.DATA, 0x8, stream_id, b"\1" + first + b"\0"), data(stream_id, rest)]
        if block is right:
            served(peer, stream_id, peer.send(headers, *pieces))
        else:
            stream_error(peer, stream_id, ErrorCode.PROTOCOL_ERROR, headers, *pieces)


@pytest.mark.parametrize("length", ["", "-1", "+10", "10,10", "1_0", "ten", "10 10", "٣"])
def test_a_content_length_that_is_no_number_is_malformed(length: str) -> None:
    """Section 8.1.1."""
    malformed(pairs_block(REQUEST) + encode([(b"content-length", length.encode())]))


@pytest.mark.parametrize("name", ["X-TEST", "x-Test", "tesT"])
def test_uppercase_field_names_are_malformed(name: str) -> None:
    """Section 8.2.1: PROTOCOL_ERROR. h2spec: http2/8.1.2/1."""
    malformed(plain_block((name, "ok")))


@pytest.mark.parametrize("octet", [*range(0x21), *range(0x41, 0x5B), *range(0x7F, 0x100), ord(":")])
def test_forbidden_octets_in_field_names_are_malformed(octet: int) -> None:
    """Section 8.2.1: 0x00-0x20, 0x41-0x5a, 0x7f-0xff and the colon."""
    peer = Peer()
    block = plain_block() + encode([(b"x" + bytes([octet]) + b"y", b"ok")])
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, with_block(1, block)[: 9 + len(block)])


@pytest.mark.parametrize("value", [b"a\0b", b"a\nb", b"a\rb", b"\0", b" a", b"\ta", b"a ", b"a\t", b" ", b"\t"])
@pytest.mark.parametrize("name", [b"x-test", b"user-agent"])
def test_forbidden_octets_in_field_values_are_malformed(name: bytes, value: bytes) -> None:
    """Section 8.2.1: NUL, CR and LF anywhere, blanks at either end."""
    malformed(plain_block() + encode([(name, value)]))


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"\x80\xff", "größe".encode(), b"\x01"])
def test_other_field_values_are_accepted(value: bytes) -> None:
    """Section 8.2.1: what the minimal validation allows."""
    peer = Peer()
    served(peer, 1, peer.send(with_block(1, plain_block() + encode([(b"x-test", value)]))))


@pytest.mark.parametrize(
    "pair",
    [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "foo"),
    ],
)
def test_connection_specific_fields_are_malformed(pair: tuple[str, str]) -> None:
    """Section 8.2.2: PROTOCOL_ERROR. h2spec: http2/8.1.2.2/1."""
    malformed(plain_block(pair))


@pytest.mark.parametrize("value", ["trailers, deflate;q=0.5", "gzip", "", "chunked"])
def test_te_must_not_be_anything_but_trailers(value: str) -> None:
    """Section 8.2.2: PROTOCOL_ERROR. h2spec: http2/8.1.2.2/2."""
    malformed(plain_block(("te", value)))


def test_cookie_crumbs_are_joined_as_one_cookie() -> None:
    """Section 8.2.3: with "; " between them."""
    peer = Peer()
    crumbs = encode([(b"cookie", b"a=b"), (b"cookie", b"c=d; e=f"), (b"cookie", b"g=h")])
    served(peer, 1, peer.send(with_block(1, plain_block() + crumbs)))
    assert peer.service.kept[0].metadata.values["cookie"] == "a=b; c=d; e=f; g=h"


@pytest.mark.parametrize("name", [":unknown", ":", ":protocol", ":Path", "::path"])
def test_unknown_pseudo_headers_are_malformed(name: str) -> None:
    """Section 8.3: PROTOCOL_ERROR. h2spec: http2/8.1.2.1/1."""
    malformed(pairs_block([(name, "x"), *REQUEST]))


def test_pseudo_headers_of_responses_are_malformed() -> None:
    """Section 8.3: ":status" in a request. h2spec: http2/8.1.2.1/2."""
    malformed(pairs_block([(":status", "200"), *REQUEST]))


@pytest.mark.parametrize("name", [":method", ":path", ":status", ":unknown"])
def test_pseudo_headers_in_trailers_are_malformed(name: str) -> None:
    """Section 8.3: PROTOCOL_ERROR. h2spec: http2/8.1.2.1/3."""
    peer = Peer()
    sent = [peer.headers(1), data(1, message(b"hello"), end=False), peer.trailers(1, (name, "x"))]
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, *sent)
    assert peer.service.kept == []


@pytest.mark.parametrize("name", [":method", ":scheme", ":path", ":authority"])
def test_pseudo_headers_after_other_fields_are_malformed(name: str) -> None:
    """Section 8.3: PROTOCOL_ERROR. h2spec: http2/8.1.2.1/4."""
    malformed(pairs_block([*without(name), (name, dict(REQUEST)[name])]))


def test_an_empty_path_is_malformed() -> None:
    """Section 8.3.1: PROTOCOL_ERROR. h2spec: http2/8.1.2.3/1."""
    malformed(plain_block((":path", "")))


def test_a_request_without_method_is_malformed() -> None:
    """Section 8.3.1: PROTOCOL_ERROR. h2spec: http2/8.1.2.3/2."""
    malformed(pairs_block(without(":method")))


def test_a_request_without_scheme_is_malformed() -> None:
    """Section 8.3.1: PROTOCOL_ERROR. h2spec: http2/8.1.2.3/3."""
    malformed(pairs_block(without(":scheme")))


def test_a_request_without_path_is_malformed() -> None:
    """Section 8.3.1: PROTOCOL_ERROR. h2spec: http2/8.1.2.3/4."""
    malformed(pairs_block(without(":path")))


@pytest.mark.parametrize("value", ["POST", "GET"])
def test_a_second_method_is_malformed(value: str) -> None:
    """Section 8.3.1: the same or another one. h2spec: http2/8.1.2.3/5."""
    malformed(pairs_block([(":method", value), *REQUEST]))


@pytest.mark.parametrize("value", ["http", "https"])
def test_a_second_scheme_is_malformed(value: str) -> None:
    """Section 8.3.1: the same or another one. h2spec: http2/8.1.2.3/6."""
    malformed(pairs_block([(":scheme", value), *REQUEST]))


@pytest.mark.parametrize("value", ["/test.Echo/Echo", "/"])
def test_a_second_path_is_malformed(value: str) -> None:
    """Section 8.3.1: the same or another one. h2spec: http2/8.1.2.3/7."""
    malformed(pairs_block([(":path", value), *REQUEST]))


@pytest.mark.parametrize("value", ["localhost", "elsewhere"])
def test_a_second_authority_is_malformed(value: str) -> None:
    """Section 8.3: the same name must not appear twice."""
    malformed(pairs_block([(":authority", value), *REQUEST]))


def test_a_host_that_differs_from_the_authority_is_malformed() -> None:
    """Section 8.3.1: a server should treat it so; the same one is fine, and so is a host alone."""
    malformed(plain_block(("host", "elsewhere")))
    peer = Peer()
    served(peer, 1, peer.send(with_block(1, plain_block(("host", "localhost")))))
    served(peer, 3, peer.send(with_block(3, pairs_block([*without(":authority"), ("host", "elsewhere")]))))


def test_any_scheme_is_accepted() -> None:
    """Section 8.3.1: it is not restricted to http and https."""
    peer = Peer()
    for stream_id, scheme in ((1, "https"), (3, "grpc"), (5, "unix")):
        served(peer, stream_id, peer.send(peer.request(stream_id, b"hello", (":scheme", scheme))))


def test_push_promise_from_a_client_ends_the_connection() -> None:
    """Section 8.4: a client cannot push. h2spec: http2/8.2/1."""
    peer = Peer()
    promise = frame(FrameType.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + plain_block())
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1), promise)


def test_the_server_does_not_push() -> None:
    """Section 8.4: also to a client that would allow it."""
    peer = Peer()
    assert FrameType.PUSH_PROMISE not in {item.kind for item in peer.send(peer.request(1))}


@pytest.mark.parametrize("pairs", [[(":method", "CONNECT"), (":authority", "localhost:80")]])
def test_a_tunnel_is_not_offered(pairs: Pairs) -> None:
    """Section 8.5: CONNECT ends its stream, as a request without path does."""
    malformed(pairs_block(pairs))


def test_a_refused_stream_was_not_processed() -> None:
    """Section 8.7: REFUSED_STREAM promises that no work was done, so that the client may try again."""
    peer = Peer()
    peer.keep(1)
    peer.connection.leave()
    peer.frames()
    asked = len(peer.service.resolved)
    stream_error(peer, 3, ErrorCode.REFUSED_STREAM, peer.request(3, b"hello", KEEP))
    assert len(peer.service.resolved) == asked
    assert len(peer.service.kept) == 1


def test_calls_may_be_answered_in_any_order() -> None:
    """Section 8.8: exchanges of different streams are independent."""
    peer = Peer()
    calls = {stream_id: peer.keep(stream_id) for stream_id in (1, 3, 5)}
    frames: list[Frame] = []
    for stream_id in (3, 5, 1):
        calls[stream_id].reply(b"hello", NO_TRAILERS)
        frames += peer.frames()
    assert [item.stream_id for item in frames if item.kind == FrameType.DATA] == [3, 5, 1]
    for stream_id, (body, _) in peer.answers(frames).items():
        assert (stream_id in calls, body) == (True, message(b"hello"))
