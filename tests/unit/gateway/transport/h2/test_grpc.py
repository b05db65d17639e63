import hpack
import pytest

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Metadata, Trailers
from gateway.transport.compression import compress
from gateway.transport.h2.errors import Refusal
from gateway.transport.h2.grpc import (
    failure_block,
    headers_block,
    percent_encode,
    read_prefix,
    status_block,
    timeout_s,
    trailers_block,
    unpack,
)
from gateway.transport.h2.limits import Limits

LIMITS = Limits(max_message_bytes=256)


def decoded(block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in hpack.Decoder().decode(block)]


def metadata(**values: str) -> Metadata:
    return Metadata("/", {key.replace("_", "-"): value for key, value in values.items()}, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("4m", 0.004),
        ("5u", 5e-6),
        ("6n", 6e-9),
        ("99999999S", 99999999),
        ("0n", 0),
    ],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert timeout_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "123456789S", "1s", "-1S", "1.5S", "1S,2S", " 1S", "1S\n", "１S"])
def test_malformed_timeouts(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        timeout_s(text)
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_message_prefix() -> None:
    assert read_prefix(b"\x00\x00\x00\x01\x00rest", 0, metadata(), LIMITS) == (False, 256)
    assert read_prefix(b"xx\x01\x00\x00\x00\x07", 2, metadata(grpc_encoding="gzip"), LIMITS) == (True, 7)


@pytest.mark.parametrize(
    ("head", "encoding", "code"),
    [
        (b"\x00\x00\x00\x01\x01", "identity", Code.RESOURCE_EXHAUSTED),
        (b"\x00\xff\xff\xff\xff", "identity", Code.RESOURCE_EXHAUSTED),
        (b"\x01\x00\x00\x00\x01", "snappy", Code.UNIMPLEMENTED),
        (b"\x01\x00\x00\x00\x01", "identity", Code.INTERNAL),
        (b"\x02\x00\x00\x00\x01", "gzip", Code.INTERNAL),
    ],
)
def test_messages_that_cannot_be_taken(head: bytes, encoding: str, code: Code) -> None:
    with pytest.raises(Refusal) as caught:
        read_prefix(head, 0, metadata(grpc_encoding=encoding), LIMITS)
    assert caught.value.code == code
    if code == Code.UNIMPLEMENTED:
        assert caught.value.trailers.pairs == (("grpc-accept-encoding", "identity, deflate, gzip"),)


def test_messages_are_unpacked_within_bounds() -> None:
    gzip = metadata(grpc_encoding="gzip")
    assert unpack(compress("gzip", b"x" * 200), gzip, LIMITS) == b"x" * 200
    with pytest.raises(Refusal) as caught:
        unpack(compress("gzip", bytes(257)), gzip, LIMITS)
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "decompressed_size")
    with pytest.raises(Refusal) as caught:
        unpack(b"no", gzip, LIMITS)
    assert caught.value.code == Code.INTERNAL


def test_the_lower_limit_bounds_what_is_unpacked() -> None:
    packed = compress("deflate", bytes(150))
    with pytest.raises(Refusal):
        unpack(packed, metadata(grpc_encoding="deflate"), Limits(max_decompressed_bytes=149))


def test_headers_carry_metadata_and_the_encoding() -> None:
    assert decoded(headers_block(NO_TRAILERS)) == [(":status", "200"), ("content-type", "application/grpc")]
    assert decoded(headers_block(Trailers(("a", "1")), "gzip"))[2:] == [("grpc-encoding", "gzip"), ("a", "1")]


def test_binary_values_are_base64_without_padding() -> None:
    assert decoded(trailers_block(Trailers(("x-bin", b"\xab"))))[0] == ("x-bin", "qw")


def test_a_status_after_headers_has_no_pseudo_header() -> None:
    assert decoded(status_block(Code.ABORTED, "no", Trailers(("a", "1")))) == [
        ("grpc-status", "10"),
        ("grpc-message", "no"),
        ("a", "1"),
    ]


def test_status_messages_are_percent_encoded() -> None:
    assert percent_encode("plain text ~!") == b"plain text ~!"
    assert percent_encode("100 %\n") == b"100 %25%0A"
    assert percent_encode("é\x7f") == b"%C3%A9%7F"
    assert percent_encode("\ud800") == b"?"
    assert len(percent_encode("x" * 100_000)) == 2048
    assert percent_encode("x" + "é" * 100_000) == b"x" + b"%C3%A9" * 1023, "whole characters, no more than 2048 bytes"


def test_trailers_are_encoded_once() -> None:
    trailers = Trailers(("cutover-arm", "stable"), ("cutover-revision", "7"))
    block = trailers_block(trailers)
    assert decoded(block) == [("cutover-arm", "stable"), ("cutover-revision", "7"), ("grpc-status", "0")]
    assert trailers_block(trailers) is block
    assert decoded(trailers_block(NO_TRAILERS)) == [("grpc-status", "0")]


def test_failures_carry_status_message_and_trailers() -> None:
    block = failure_block(Code.RESOURCE_EXHAUSTED, "füll", Trailers(("grpc-retry-pushback-ms", "20")))
    assert decoded(block) == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "8"),
        ("grpc-message", "f%C3%BCll"),
        ("grpc-retry-pushback-ms", "20"),
    ]
    assert decoded(failure_block(Code.INVALID_ARGUMENT, "no", http_status=415))[0] == (":status", "415")
    assert len(decoded(failure_block(Code.INTERNAL, ""))) == 4
