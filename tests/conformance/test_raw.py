"""Requests no gRPC library sends, to both transports: what they answer is written down here for each."""

import zlib

import pytest

from tests.conformance.conftest import Process
from tests.conformance.raw import Answered, Asked, ask_raw
from tests.transports import differs
from tests.unit.gateway.transport.h2.peer import message

OK = Answered()
INTERNAL = "13"
UNIMPLEMENTED = "12"
INVALID = "3"
EXHAUSTED = "8"
BASE64 = "Error parsing 'k-bin' metadata: illegal base64 encoding"
METADATA = "request metadata is larger than the limit (100 fields, 16384 bytes with 32 for each field)"
LATE = Answered(status="4", text="Deadline Exceeded")


def refused(status: str, text: str, http: str = "200") -> Answered:
    return Answered(http, status, text)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (Asked(), OK),
        (Asked(fields=(("content-type", "application/grpc+proto"),)), OK),
        (Asked(fields=(("content-type", "application/grpc;charset=utf-8"),)), OK),
        (Asked(fields=((":scheme", "https"),)), OK),
        (Asked("Nothing"), refused(UNIMPLEMENTED, "unknown method /test.Conformance/Nothing")),
        (Asked(fields=((":path", "x"),)), refused(UNIMPLEMENTED, "unknown method x")),
        (Asked(body=None), refused(UNIMPLEMENTED, "unary call without a request message")),
        (Asked(body=b""), refused(UNIMPLEMENTED, "unary call without a request message")),
        (
            Asked(body=message(b"a") + message(b"b")),
            refused(UNIMPLEMENTED, "unary call with more than one request message"),
        ),
        (Asked("Fail", (("code", "5"),)), refused("5", "hi")),
        (Asked("Each", body=None), OK),
        (Asked(fields=(("grpc-timeout", "99999999H"),)), OK),
        (Asked(fields=(("grpc-encoding", "identity"),)), OK),
        (Asked(fields=(("grpc-encoding", "deflate"),), body=message(zlib.compress(b"hi"), 1)), OK),
    ],
)
def test_what_is_the_same(server: Process, asked: Asked, answered: Answered) -> None:
    assert ask_raw(server.port, asked)[0] == answered


@pytest.mark.parametrize(
    ("name", "asked", "h2", "grpcio"),
    [
        (
            "not-grpc",
            Asked(fields=((":method", "GET"),)),
            refused(UNIMPLEMENTED, "gRPC calls are POST requests", "405"),
            Answered(reset=2),
        ),
        (
            "not-grpc",
            Asked(fields=(("content-type", "text/plain"),)),
            refused(INVALID, "content-type must be application/grpc", "415"),
            OK,
        ),
        ("not-grpc", Asked(without=("te",)), OK, Answered(reset=2)),
        ("not-grpc", Asked(without=(":authority",)), OK, Answered(reset=2)),
        ("malformed-headers", Asked(without=(":path",)), Answered(reset=1), Answered(reset=2)),
        ("malformed-headers", Asked(fields=(("connection", "close"),)), Answered(reset=1), OK),
        (
            "malformed-headers",
            Asked(fields=(("Upper", "v"),)),
            Answered(reset=1),
            refused(INTERNAL, "Illegal header key: Upper"),
        ),
        (
            "malformed-headers",
            Asked(fields=(("te", "gzip"),)),
            Answered(reset=1),
            refused(INTERNAL, "Error parsing 'te' metadata"),
        ),
        (
            "malformed-timeout",
            Asked(fields=(("grpc-timeout", "abc"),)),
            refused(INVALID, "malformed grpc-timeout 'abc': up to 8 digits, then one of H M S m u n"),
            refused(INTERNAL, "Error parsing 'grpc-timeout' metadata"),
        ),
        (
            "malformed-timeout",
            Asked(fields=(("grpc-timeout", "123456789S"),)),
            refused(INVALID, "malformed grpc-timeout '123456789S': up to 8 digits, then one of H M S m u n"),
            OK,
        ),
        ("deadline", Asked(fields=(("grpc-timeout", "0S"),)), OK, LATE),
        (
            "encoding",
            Asked(fields=(("grpc-encoding", "br"),), body=message(b"hi", 1)),
            refused(UNIMPLEMENTED, "grpc-encoding br is not supported; use one of identity, deflate, gzip"),
            refused(INTERNAL, "Error parsing 'grpc-encoding' metadata"),
        ),
        (
            "encoding",
            Asked(fields=(("grpc-encoding", "br"),)),
            OK,
            refused(INTERNAL, "Error parsing 'grpc-encoding' metadata"),
        ),
        (
            "texts",
            Asked(body=message(b"hi", 1)),
            refused(INTERNAL, "message has compressed flag 1 but grpc-encoding is identity"),
            refused(INTERNAL, "Compression bit set but no encoding configured"),
        ),
        (
            "texts",
            Asked(fields=(("grpc-encoding", "gzip"),), body=message(b"hi", 1)),
            refused(INTERNAL, "message is not gzip: Error -3 while decompressing data: incorrect header check"),
            refused(INTERNAL, "Decompression failed due to zlib error"),
        ),
        (
            "cut-off",
            Asked(body=message(b"hello")[:-2]),
            refused(INTERNAL, "request message is cut off"),
            refused(UNIMPLEMENTED, "unary call without a request message"),
        ),
        ("cut-off", Asked("Each", body=b"\0\0"), refused(INTERNAL, "request message is cut off"), OK),
        (
            "metadata-size",
            Asked(fields=tuple((f"x-{number}", "") for number in range(101))),
            refused(
                EXHAUSTED, "request metadata is larger than the limit (100 fields, 16384 bytes with 32 for each field)"
            ),
            OK,
        ),
        (
            "metadata-size",
            Asked(fields=(("x", "v" * 16_300),)),
            refused(
                EXHAUSTED, "request metadata is larger than the limit (100 fields, 16384 bytes with 32 for each field)"
            ),
            OK,
        ),
        ("binary-metadata", Asked(fields=(("k-bin", "AP8,AA"),)), OK, refused(INTERNAL, BASE64)),
        ("binary-metadata", Asked(fields=(("k-bin", "!"),)), OK, refused(INTERNAL, BASE64)),
    ],
)
def test_what_differs(server: Process, transport: str, name: str, asked: Asked, h2: Answered, grpcio: Answered) -> None:
    assert ask_raw(server.port, asked)[0] == differs(name, transport, h2=h2, grpcio=grpcio)
