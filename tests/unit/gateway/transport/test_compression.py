"""Compressed messages: round trips, agreement with the standard library, bombs, bad data, what a peer accepts."""

import contextlib
import gzip
import subprocess
import sys
import textwrap
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.compression import ACCEPTED, ENCODINGS, Corrupt, Oversized, choose, compress, decompress

encodings = st.sampled_from(sorted(ENCODINGS))
messages = st.binary(max_size=300) | st.builds(
    lambda part, times: part * times, st.binary(max_size=9), st.integers(0, 9999)
)


@given(encodings, messages)
def test_what_is_compressed_comes_back(encoding: str, message: bytes) -> None:
    data = compress(encoding, message)
    assert decompress(encoding, data, len(message)) == message
    assert decompress(encoding, memoryview(data), len(message) + 1) == message


@given(messages, st.integers(0, 9))
def test_agrees_with_the_standard_library(message: bytes, level: int) -> None:
    assert decompress("gzip", gzip.compress(message, level), len(message)) == message
    assert decompress("deflate", zlib.compress(message, level), len(message)) == message
    assert gzip.decompress(compress("gzip", message)) == message
    assert zlib.decompress(compress("deflate", message)) == message


@given(encodings, messages.filter(bool), st.data())
def test_the_cap_is_exact(encoding: str, message: bytes, draw: st.DataObject) -> None:
    max_bytes = draw.draw(st.integers(0, len(message) - 1))
    with pytest.raises(Oversized, match=f"more than {max_bytes} bytes"):
        decompress(encoding, compress(encoding, message), max_bytes)


@given(encodings, messages, st.data())
def test_a_message_cut_short_is_corrupt(encoding: str, message: bytes, draw: st.DataObject) -> None:
    data = compress(encoding, message)
    with pytest.raises(Corrupt, match="cut short"):
        decompress(encoding, data[: draw.draw(st.integers(1, len(data) - 1))], len(message))


@given(encodings, st.binary(min_size=1, max_size=99), st.data())
def test_changed_bytes_never_pass_for_another_message(encoding: str, message: bytes, draw: st.DataObject) -> None:
    data = bytearray(compress(encoding, message))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    with contextlib.suppress(Corrupt, Oversized):
        assert decompress(encoding, bytes(data), 10_000) == message  # gzip's header has bytes that mean nothing


@given(encodings, st.binary(max_size=99))
def test_noise_is_corrupt_or_bounded(encoding: str, noise: bytes) -> None:
    with contextlib.suppress(Corrupt, Oversized):
        assert len(decompress(encoding, noise, 1000)) <= 1000


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_nothing_may_follow(encoding: str) -> None:
    data = compress(encoding, b"one")
    with pytest.raises(Corrupt, match="followed by 1 bytes"):
        decompress(encoding, data + b"\0", 100)
    with pytest.raises(Corrupt, match="followed by"):
        decompress(encoding, data + data, 100)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_no_data_is_an_empty_message(encoding: str) -> None:
    assert decompress(encoding, b"", 0) == b""
    assert decompress(encoding, compress(encoding, b""), 0) == b""


def test_the_formats_are_not_mistaken_for_each_other() -> None:
    bare = zlib.compress(b"message", wbits=-zlib.MAX_WBITS)
    for encoding, data in (
        ("gzip", zlib.compress(b"message")),
        ("deflate", gzip.compress(b"message")),
        ("deflate", bare),
    ):
        with pytest.raises(Corrupt, match=f"not {encoding}"):
            decompress(encoding, data, 100)


def test_a_preset_dictionary_is_corrupt() -> None:
    deflater = zlib.compressobj(zdict=b"known to both")
    with pytest.raises(Corrupt, match="not deflate"):
        decompress("deflate", deflater.compress(b"known to both") + deflater.flush(), 100)


BOMB = """
    import resource, sys, zlib
    from gateway.transport.compression import ENCODINGS, Oversized, decompress
    wbits = ENCODINGS[sys.argv[1]]
    deflater = zlib.compressobj(9, wbits=wbits)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(int(sys.argv[2]))) + deflater.flush()
    decompress(sys.argv[1], zlib.compress(bytes(1 << 16), wbits=wbits), 1 << 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decompress(sys.argv[1], bomb, 1 << 16)
    except Oversized:
        sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_a_bomb_costs_no_more_than_the_cap(encoding: str) -> None:
    """A process of its own, whose largest size so far nothing else has driven up."""
    command = [sys.executable, "-c", textwrap.dedent(BOMB), encoding, "10"]
    grown = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert int(grown) * 1024 < 1 << 20, "of 10 MiB, for a cap of 64 KiB"


def test_tensors_get_shorter() -> None:
    tensor = b"".join(value.to_bytes(8, "little") for value in range(10_000))
    assert all(len(compress(encoding, tensor)) < len(tensor) // 2 for encoding in ENCODINGS)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, ""),
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("identity,deflate,gzip", "gzip"),
        (" identity ,\tdeflate ", "deflate"),
        ("identity, gzip;q=1.0", ""),
        ("br, zstd, snappy", ""),
        ("GZIP", ""),
        (ACCEPTED, "gzip"),
    ],
)
def test_a_reply_is_compressed_as_the_peer_accepts(accepted: str | None, chosen: str) -> None:
    assert choose(accepted) == chosen


def test_all_that_is_accepted_is_understood() -> None:
    assert {name.strip() for name in ACCEPTED.split(",")} == {"identity", *ENCODINGS}
