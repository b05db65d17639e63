from collections.abc import Callable

import pytest

from gateway.errors import Code
from gateway.transport.call import Call, Handler, Metadata
from gateway.transport.h2 import fields
from gateway.transport.h2.errors import ErrorCode, Refusal, StreamFault
from gateway.transport.h2.fields import content_length
from gateway.transport.h2.hpack import Entry

Fields = list[tuple[bytes, bytes]]

GOOD: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"here"),
    (b"content-type", b"application/grpc+proto"),
    (b"te", b"trailers"),
]


def entries(pairs: Fields) -> list[Entry]:
    return [Entry(name, value, 0) for name, value in pairs]


def read(pairs: Fields, resolve: Callable[[str], Handler | None]) -> Metadata:
    return fields.read(entries(pairs), resolve)


def check_trailers(pairs: Fields) -> None:
    fields.check_trailers(entries(pairs))


def handler(call: Call) -> None:
    """Never called here."""


def resolve(path: str) -> Handler | None:
    return handler if path == "/a.B/C" else None


def good(*extra: tuple[bytes, bytes], without: bytes = b"") -> Fields:
    replaced = {name for name, _ in extra if name.startswith(b":") or name in (b"te", b"content-type")} | {without}
    pseudo = [pair for pair in extra if pair[0].startswith(b":")]
    kept = [pair for pair in GOOD if pair[0] not in replaced]
    return pseudo + kept + [pair for pair in extra if not pair[0].startswith(b":")]


def test_a_call_becomes_metadata() -> None:
    metadata = read(good((b"grpc-timeout", b"250m"), (b"x-user-id", b"u1"), (b"x-user-id", b"u2")), resolve)
    assert metadata.path == "/a.B/C"
    assert metadata.handler is handler
    assert metadata.timeout_s == 0.25
    assert metadata.values == {
        "content-type": "application/grpc+proto",
        "te": "trailers",
        "grpc-timeout": "250m",
        "x-user-id": "u1,u2",
    }


def test_authority_and_te_may_be_absent() -> None:
    fields = [pair for pair in GOOD if pair[0] not in (b":authority", b"te")]
    assert read(fields, resolve).timeout_s is None
    assert read([*fields, (b"host", b"here")], resolve).values["host"] == "here"
    assert read([*GOOD, (b"host", b"here")], resolve).values["host"] == "here"


def test_the_crumbs_of_a_cookie_make_one_cookie() -> None:
    values = read(good((b"cookie", b"a=1"), (b"cookie", b"b=2; c=3")), resolve).values
    assert values["cookie"] == "a=1; b=2; c=3"


def test_text_that_is_not_ascii_is_kept() -> None:
    values = read(good((b"x-a", "Ünï".encode()), (b"x-b", b"\xff")), resolve).values
    assert (values["x-a"], values["x-b"]) == ("Ünï", "ÿ")


@pytest.mark.parametrize(
    "fields",
    [
        good(without=b":method"),
        good(without=b":scheme"),
        good(without=b":path"),
        good((b":path", b"")),
        good((b":status", b"200")),
        [*GOOD, (b":path", b"/late")],
        [GOOD[0], *GOOD],
        good((b"X-Upper", b"v")),
        good((b"", b"v")),
        good((b"x y", b"v")),
        good((b"x:y", b"v")),
        good((b"x\x00", b"v")),
        good((b"x-\xc3", b"v")),
        good((b"x-a", b"v\r\nx-b: w")),
        good((b"x-a", b"v\x00")),
        good((b"x-a", b" v")),
        good((b"x-a", b"v\t")),
        good((b"connection", b"keep-alive")),
        good((b"transfer-encoding", b"chunked")),
        good((b"upgrade", b"h2c")),
        good((b"te", b"gzip")),
        good((b"host", b"elsewhere")),
    ],
)
def test_malformed_requests(fields: Fields) -> None:
    with pytest.raises(StreamFault) as caught:
        read(fields, resolve)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("extra", "http_status", "code"),
    [
        ((b":method", b"GET"), 405, Code.UNIMPLEMENTED),
        ((b"content-type", b"application/json"), 415, Code.INVALID_ARGUMENT),
        ((b"content-type", b"application/grpc-web"), 415, Code.INVALID_ARGUMENT),
        ((b"content-type", b""), 415, Code.INVALID_ARGUMENT),
        ((b"grpc-timeout", b"1x"), 200, Code.INVALID_ARGUMENT),
        ((b":path", b"/a.B/D"), 200, Code.UNIMPLEMENTED),
    ],
)
def test_requests_that_are_refused(extra: tuple[bytes, bytes], http_status: int, code: Code) -> None:
    with pytest.raises(Refusal) as caught:
        read(good(extra), resolve)
    assert (caught.value.http_status, caught.value.code) == (http_status, code)


@pytest.mark.parametrize("value", [b"application/grpc", b"application/grpc;charset=utf-8", b"Application/gRPC+json"])
def test_content_types_of_grpc(value: bytes) -> None:
    assert read(good((b"content-type", value)), resolve).handler is handler


def test_trailers_have_no_pseudo_headers() -> None:
    check_trailers([(b"x-checksum", b"1")])
    with pytest.raises(StreamFault):
        check_trailers([(b":path", b"/")])


def test_content_length() -> None:
    assert content_length(Metadata("/", {}, None, None)) is None
    assert content_length(Metadata("/", {"content-length": "12"}, None, None)) == 12
    for text in ("", "-1", "1,1", "²", "9" * 20):
        with pytest.raises(StreamFault):
            content_length(Metadata("/", {"content-length": text}, None, None))


def test_memory_of_names_is_bounded() -> None:
    for number in range(2 * fields.MAX_NAMES):
        read(good((b"x-%d" % number, b"v")), resolve)
    read(good((b"x" * 1000, b"v")), resolve)
    assert len(fields._names) <= fields.MAX_NAMES
    assert b"x" * 1000 not in fields._names
